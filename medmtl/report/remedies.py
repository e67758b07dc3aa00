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
    "CHANGED_WHILE_READ": Remedy(
        "the files of a study changed each time they were read",
        "Wait until they are complete, and run the same command again.",
    ),
    "WORKER_DIED": Remedy(
        "the process that computed a study died, twice",
        "Look at the study and at the machine's memory; then run again with --retry-failed.",
    ),
    "UNEXPECTED": Remedy(
        "an error that nobody foresaw", "Report it with the message, which holds nothing of the study."
    ),
    "PACS_UNREACHABLE": Remedy(
        "no connection to a PACS, or none whose certificate can be verified",
        "Check host and port; name the hospital's certificate authority in REQUESTS_CA_BUNDLE.",
    ),
    "PACS_DENIED": Remedy(
        "a PACS refuses access",
        "Set MEDMTL_DICOMWEB_USER and MEDMTL_DICOMWEB_PASSWORD or MEDMTL_DICOMWEB_TOKEN, or write ~/.netrc.",
    ),
    "PACS_NOT_FOUND": Remedy(
        "a PACS has no such study, or no DICOMweb at this path",
        "Check StudyInstanceUID and the path of the address.",
    ),
    "PACS_FAILED": Remedy(
        "a PACS answers with an error, or with what is no DICOMweb",
        "Look into its log, or try later; check the path of the address.",
    ),
    "PACS_TIMEOUT": Remedy(
        "a PACS does not answer in time", "Ask whether it is overloaded, then run the same command again."
    ),
    "PACS_INCOMPLETE": Remedy(
        "the connection to a PACS broke off in the middle, or a series came with files missing",
        "Run the same command again; what is done stays done.",
    ),
    "PACS_REJECTED": Remedy(
        "a PACS did not take a result",
        "Look into its log for the reason that the message names; the result is still in the output folder.",
    ),
}
