"""What an object takes over from its source images: patient, study, references; or what hides them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from hashlib import sha256
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from medmtl.data.dicom.by_pydicom import pydicom_errors
from medmtl.data.dicom.decode import quiet
from medmtl.data.dicom.files import SeekableSource
from medmtl.data.dicom.header import patient_key
from medmtl.data.dicom.model import Instance, Plane, VolumePlan
from medmtl.inference.dicom.codes import Algorithm, Hides
from medmtl.inference.dicom.concepts import text
from medmtl.inference.dicom.hiding import HIDDEN_DATE, HIDDEN_TIME, STUDY, hide
from medmtl.types import CaseError, ConfigError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_STOP = 0x00280000
"""Group of the first element behind all that is taken over."""
_FILED_BY = ("PatientID", "PatientName", "IssuerOfPatientID", "AccessionNumber")
"""Kept as they are, even if too long: a PACS files by them."""
_CLASSIC = "1.2.840.10008.5.1.4.1.1.4"
"""MR Image Storage: stands for the source to highdicom, which then asks for nothing but what is given."""


def require_highdicom() -> None:
    """Say what to install where highdicom is missing, before anything is computed.

    Raises:
        ConfigError: it is missing.
    """
    if find_spec("highdicom") is None:
        raise ConfigError(
            "DICOM SEG and SR need highdicom: pip install 'medmtl[dicom]', or write other formats (--write)"
        )


class Names:
    """UIDs and patient data as they are written: the source's own, or keyed hashes of them.

    Args:
        hides: makes the hashes; None leaves everything as it is.
    """

    def __init__(self, hides: Hides | None) -> None:
        self.hides = hides
        self._known: dict[str, str] = {}

    def uid(self, uid: str) -> str:
        """A UID of the source."""
        if self.hides is None or not uid:
            return uid
        if uid not in self._known:
            digits = self.hides.of(uid) + self.hides.of(f"{uid} again")
            self._known[uid] = f"2.25.{int(digits[:32], 16)}"
        return self._known[uid]


def made_uid(*words: object) -> str:
    """The same UID for the same words: what is made twice of the same is the same object."""
    digest = sha256("\n".join(map(str, words)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def is_valid_uid(uid: str) -> bool:
    """Whether a UID is made as PS3.5 section 9.1 wants it: no leading zeros, at most 64 characters."""
    return len(uid) <= 64 and re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+", uid) is not None


def planes_of(plan: VolumePlan) -> Iterator[Plane]:
    """All planes, phase by phase."""
    for t in range(len(plan.planes[0])):
        for row in plan.planes:
            yield row[t]


def instances_of(plans: Sequence[VolumePlan]) -> list[Instance]:
    """Every file of some plans, once; those of another study than the first plan's are left out."""
    of_study = [plan for plan in plans if plan.study_uid == plans[0].study_uid]
    found = {id(plane.instance): plane.instance for plan in of_study for plane in planes_of(plan)}
    return list(found.values())


def identity(instance: Instance) -> tuple[str, str, str]:
    """SOPClassUID, SOPInstanceUID and SeriesInstanceUID of a file.

    Raises:
        CaseError: ``UNDECODABLE``: it lacks one, so that nothing can refer to it.
    """
    found = [instance.header.get(key) for key in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID")]
    if not all(found):
        lacks = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID")[found.index(None)]
        raise CaseError(
            "UNDECODABLE", f"{instance.source.label}: has no {lacks}, so a DICOM object cannot refer to it"
        )
    return found[0], found[1], found[2]


def series_number(plan: VolumePlan, more: int) -> int:
    """A number for a new series beside that of the images: 3 becomes 301, 302."""
    number = plan.planes[0][0].instance.header.get("SeriesNumber")
    return 100 * int(number) + more if number is not None and 0 <= number < 10**6 else 9000 + more


def frame_of_reference(plan: VolumePlan) -> str:
    """The UID that most planes name; one made of the series where none does.

    Some scanners write another one into every file of a series, so that it cannot tell grids apart.
    """
    count: dict[str, int] = {}
    for plane in planes_of(plan):
        if uid := plane.instance.header.get("FrameOfReferenceUID"):
            count[uid] = count.get(uid, 0) + 1
    return (
        max(count, key=lambda uid: count[uid]) if count else made_uid("frame of reference", plan.series_uid)
    )


def template(plan: VolumePlan, names: Names) -> Dataset:
    """One image as highdicom wants its sources, with the patient and study of the plan's first file.

    Only the file's header up to group 0028 is read. What is not valid is left out, and what has to be there
    is blank where the source lacks it.

    Raises:
        CaseError: ``UNDECODABLE``: the file cannot be read any more.
    """
    first = plan.planes[0][0].instance
    made = _taken_over(first)
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", *STUDY):
        if keyword not in made:
            setattr(made, keyword, "")
    if names.hides is not None:
        hide(made, names.hides, plan.study_uid)
    made.StudyInstanceUID = names.uid(plan.study_uid or made_uid("study", plan.series_uid))
    made.SeriesInstanceUID = names.uid(plan.series_uid)
    made.SOPInstanceUID, made.SOPClassUID = names.uid(identity(first)[1]), _CLASSIC
    made.FrameOfReferenceUID, made.PositionReferenceIndicator = names.uid(frame_of_reference(plan)), ""
    made.Modality = plan.modality or "OT"
    lossy = first.header.get("LossyImageCompression")
    made.LossyImageCompression = lossy if lossy in ("00", "01") else "00"
    made.Rows, made.Columns = plan.shape[1], plan.shape[0]
    made.ImagePositionPatient = [0.0, 0.0, 0.0]
    made.ImageOrientationPatient = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    made.PixelSpacing, made.SliceThickness = [1.0, 1.0], 1.0
    return made


def patient_of(plan: VolumePlan) -> str | None:
    """The ``Patient.Key`` that a file has whose patient is that of the plan's first file, in UTF-8."""
    with quiet():
        made = _taken_over(plan.planes[0][0].instance)
        return patient_key(
            *(str(made.get(key) or "").encode() for key in ("PatientID", "PatientName", "PatientBirthDate"))
        )


def _taken_over(instance: Instance) -> Dataset:
    """The valid elements of patient, study and clinical trial of a file."""
    from pydicom.config import IGNORE, RAISE
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset
    from pydicom.filereader import read_partial
    from pydicom.tag import Tag

    study = {Tag(keyword) for keyword in STUDY}
    made = Dataset()
    with quiet():
        try:
            file = SeekableSource(instance.source.read, instance.source.size())
            found = read_partial(
                cast(BinaryIO, file), stop_when=lambda tag, vr, length: tag >= _STOP, force=True
            )
            wanted = [tag for tag in list(found.keys()) if tag.group in (0x0010, 0x0012) or tag in study]
        except pydicom_errors() as error:
            text = f"{instance.source.label}: cannot be read again ({type(error).__name__})"
            raise CaseError("UNDECODABLE", text) from error
        for tag in wanted:
            try:
                element = found[tag]
                if element.VR != "UN" and not tag.is_private:
                    strict = IGNORE if element.keyword in _FILED_BY else RAISE
                    made.add(DataElement(tag, element.VR, element.value, validation_mode=strict))
            except pydicom_errors():
                continue
        if made.get("PatientSex") not in ("M", "F", "O", "", None):
            del made.PatientSex
    return made


def equipment(algorithm: Algorithm, names: Names) -> dict[str, Any]:
    """Arguments that highdicom's objects share: who made them, in which characters, and when."""
    made: dict[str, Any] = {
        "manufacturer": "medmtl",
        "manufacturer_model_name": text(algorithm.name, 64) or "medmtl",
        "software_versions": text(algorithm.version, 64) or "0",
        "device_serial_number": text(algorithm.digest, 64) or "0",
        "specific_character_set": "ISO_IR 192",
    }
    if names.hides is not None:
        made |= {"content_date": HIDDEN_DATE, "content_time": HIDDEN_TIME}
    return made
