"""Objects that do not say who the patient is.

Source: DICOM PS3.15 Table E.1-1, Basic Application Level Confidentiality Profile, with the option to retain
patient characteristics.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from medmtl.inference.dicom.codes import Hides

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

HIDDEN_DATE, HIDDEN_TIME = "19000101", "000000"
"""What stands where the standard wants a date and none may be told."""
STUDY = (
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyDescription",
    "StudyID",
)


def hide(made: Dataset, hides: Hides, study_uid: str) -> None:
    """Keeps sex, age and measures, and leaves nothing else of patient and study."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence as Items

    patient = hides.of(f"patient {made.get('PatientID') or made.get('PatientName') or study_uid}")
    kept = {
        keyword: made.get(keyword)
        for keyword in ("PatientSex", "PatientAge", "PatientSize", "PatientWeight")
        if keyword in made
    }
    made.clear()
    for keyword in ("PatientBirthDate", *STUDY):
        setattr(made, keyword, "")
    made.update(_elements(kept))
    made.PatientID, made.PatientName = patient, f"{patient}^Pseudonym"
    made.PatientIdentityRemoved = "YES"
    made.DeidentificationMethod = "Replaced by keyed hashes"
    profile, option = Dataset(), Dataset()
    profile.CodeValue, profile.CodingSchemeDesignator = "113100", "DCM"
    profile.CodeMeaning = "Basic Application Confidentiality Profile"
    option.CodeValue, option.CodingSchemeDesignator = "113108", "DCM"
    option.CodeMeaning = "Retain Patient Characteristics Option"
    made.DeidentificationMethodCodeSequence = Items([profile, option])


def _elements(values: Mapping[str, Any]) -> Dataset:
    from pydicom.dataset import Dataset

    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def hide_dates(made: Dataset) -> None:
    """Blanks the dates of making, which lie near the examination."""
    for keyword in ("InstanceCreationDate", "InstanceCreationTime", "SeriesDate", "SeriesTime"):
        if keyword in made:
            delattr(made, keyword)
    made.ContentDate, made.ContentTime = HIDDEN_DATE, HIDDEN_TIME
    made.LongitudinalTemporalInformationModified = "REMOVED"


def hide_dates_within(item: Dataset) -> None:
    """Blanks the times at which highdicom says that content was observed."""
    for element in item:
        if element.VR == "SQ":
            for inner in element.value:
                hide_dates_within(inner)
        elif element.VR == "DT":
            element.value = f"{HIDDEN_DATE}{HIDDEN_TIME}"
