"""What every finding code means and what to do, in a sentence each: for the terminal and the docs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Remedy:
    """Says what a code means, and what to do.

    Attributes:
        means: a phrase.
        do: one sentence to somebody who has the files in front of them.
    """

    means: str
    do: str


REMEDIES: Mapping[str, Remedy] = {
    "NOT_AN_IMAGE": Remedy(
        "a file without an image that could be part of a volume",
        "Nothing: reports, screenshots and colour pictures are left out.",
    ),
    "UNDECODABLE": Remedy(
        "a file or its pixels cannot be decoded",
        "Install the codec that the message names, or export the series again, uncompressed.",
    ),
    "TRUNCATED": Remedy("a file ends before its contents do", "Copy or export the file again."),
    "MISSING_GEOMETRY": Remedy(
        "no position, orientation or pixel size, or one that is impossible",
        "Export the original images from the archive; geometry is never guessed.",
    ),
    "LOCALIZER": Remedy("a scout image", "Nothing: scouts are left out of volumes."),
    "MIXED_ORIENTATION": Remedy(
        "slices of one series lie in different planes",
        "Split the series by plane, or leave out the slices that do not belong.",
    ),
    "MIXED_GRID": Remedy(
        "slices of one series differ in size or in pixel spacing",
        "Split the series, or export the original instead of a resized copy.",
    ),
    "DUPLICATE_POSITION": Remedy(
        "two different slices at one place and time",
        "Find out which is right and remove the other; look for two scans in one series.",
    ),
    "GAP": Remedy("a slice is missing inside the stack", "Export the series again and count its files."),
    "NONUNIFORM_SPACING": Remedy(
        "slices are not equally far apart",
        "Look at the volume: it was resampled from the true positions; --strict refuses it instead.",
    ),
    "GANTRY_TILT": Remedy(
        "slices are sheared against their normal",
        "Nothing: the volume was resampled onto a right-angled grid; --strict refuses it instead.",
    ),
    "INCOMPLETE_GRID": Remedy(
        "not every slice has every phase", "Export the series again, or leave out the incomplete slices."
    ),
    "TIME_AMBIGUOUS": Remedy(
        "phases cannot be put in order, or only by a guess",
        "Check the order on a contact sheet; export again with trigger times.",
    ),
    "SINGLE_SLICE": Remedy(
        "one slice only, and a volume has several", "Leave it out: 2D images are out of medmtl's scope."
    ),
    "SUV_MISSING_TAG": Remedy(
        "PET without what SUV needs",
        "Values stay as they are; ask for weight, dose and times, or work with Bq/mL.",
    ),
    "SUV_ALREADY": Remedy("PET that is in SUV as it is", "Nothing: it is not scaled a second time."),
    "RESCALE_PER_SLICE": Remedy(
        "each slice has its own scale", "Nothing: every slice's own slope and intercept were applied."
    ),
    "JOINED_SERIES": Remedy(
        "a volume was put together from one series per slice or per phase",
        "Nothing: some scanners store it so; the other series point to this one.",
    ),
    "VALUE_SCALE": Remedy(
        "what the stored numbers stand for is not plain",
        "Read the message before you compare intensities between scans.",
    ),
    "LABEL_GEOMETRY_MISMATCH": Remedy(
        "a mask does not lie on its image's grid", "Export the mask for this image, or resample it knowingly."
    ),
    "LABEL_VALUES": Remedy(
        "a mask holds numbers that nothing names, or leaves slices unlabelled",
        "Name the numbers in dataset.yaml, or correct the mask.",
    ),
    "LABEL_WRONG_PATIENT": Remedy(
        "a label belongs to another patient, or to two", "Find the right one; the label is not used."
    ),
    "NO_USABLE_SERIES": Remedy(
        "nothing in the study can be used", "Read the other findings; they say why, series by series."
    ),
    "TIMEOUT": Remedy("a case took longer than allowed", "Try it alone, or allow more time."),
    "OUT_OF_MEMORY": Remedy("a case did not fit in memory", "Take a smaller window, or a larger machine."),
}
