"""Studies of a scan: one volume of each becomes a case, by a rule that is written down here.

Of a study's volumes the first of these is taken: one that labels were drawn on before others; one that needs
no resampling before one that does; a series over time before a single volume; the one with the most images;
the one that comes first. Conditions that the user gives come before all that. Modalities are not mixed in a
dataset: without a condition, it is that of labelled volumes, then that which the most studies have, then the
first of the alphabet.
"""

from __future__ import annotations

import fnmatch
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, get_args

from medmtl.data.dicom.model import Scan, Series, VolumePlan
from medmtl.data.formats.description import safe_name
from medmtl.data.formats.dicom_labels import LabelFile, is_label_file, read_label_file
from medmtl.registry import nearest
from medmtl.types import CaseError, ConfigError, DatasetError, Finding

CONDITIONS = ("modality", "description", "volume", "series_uid", "study_uid")
"""What a volume can be chosen by."""


@dataclass(frozen=True, eq=False)
class Study:
    """One study.

    Attributes:
        uid: StudyInstanceUID.
        series: its series.
        labels: label files that were drawn on its images, or lie beside them and do not say on what.
        findings: about label files that cannot be used.
        folder: the folder that holds all its images, relative to the source; blank where that is the source.
        patient_key: digest of its PatientID, never to be written.
    """

    uid: str
    series: tuple[Series, ...]
    labels: tuple[LabelFile, ...]
    findings: tuple[Finding, ...]
    folder: str
    patient_key: str

    @property
    def volumes(self) -> tuple[VolumePlan, ...]:
        """All volumes that can be loaded."""
        return tuple(plan for series in self.series for plan in series.volumes)

    def labels_of(self, plan: VolumePlan) -> tuple[LabelFile, ...]:
        """Label files that say that they were drawn on a volume."""
        uids = series_uids(plan)
        return tuple(file for file in self.labels if file.content.series_uids & uids)

    def homeless(self) -> tuple[LabelFile, ...]:
        """Label files that name no series of this study."""
        uids = {uid for plan in self.volumes for uid in series_uids(plan)}
        return tuple(file for file in self.labels if not file.content.series_uids & uids)


def series_uids(plan: VolumePlan) -> frozenset[str]:
    """SeriesInstanceUID of all files of a volume."""
    return frozenset(
        uid
        for phases in plan.planes
        for plane in phases
        if (uid := plane.instance.header.get("SeriesInstanceUID")) is not None
    )


def parse_conditions(given: Sequence[str]) -> dict[str, str]:
    """``["modality=MR", "description=*SAX*"]`` -> by name; patterns may use ``*`` and ``?``, in any case.

    Raises:
        ConfigError: a condition is none.
    """
    conditions: dict[str, str] = {}
    for text in given:
        name, equals, pattern = text.partition("=")
        if not equals or name not in CONDITIONS:
            hint = nearest(name, list(CONDITIONS)) if equals else "; write it as description=*SAX*"
            raise ConfigError(f"select: {text!r} is no condition{hint}")
        if name in conditions:
            raise ConfigError(f"select: {name} stands there twice; give it once")
        conditions[name] = pattern
    return conditions


def parse_structures(given: Sequence[str]) -> dict[str, str]:
    """``["GTV=gtv*"]`` -> pattern of labels by the structure's name; a name alone is its own pattern.

    Raises:
        ConfigError: a name is blank or stands there twice.
    """
    structures: dict[str, str] = {}
    for text in given:
        name, equals, pattern = (part.strip() for part in text.partition("="))
        if not name or name in structures or (equals and not pattern):
            raise ConfigError(f"structure: {text!r} is blank or there already; write NAME=PATTERN, once each")
        structures[name] = pattern or name
    return structures


def one_of(option: str, value: str, kind: Any) -> Any:
    """A value of a Literal type.

    Raises:
        ConfigError: it is none.
    """
    if value not in get_args(kind):
        raise ConfigError(f"{option}: {value!r} is not known{nearest(str(value), list(get_args(kind)))}")
    return value


def studies_of(scan: Scan, wanted: Mapping[str, str]) -> tuple[list[Study], list[Finding]]:
    """The studies of a scan, and findings about label files of images that are not here.

    Args:
        scan: the scan.
        wanted: structures; see `read_label_file`.
    """
    by_uid: dict[str, list[Series]] = {}
    study_of_series: dict[str, str] = {}
    for series in scan.series:
        by_uid.setdefault(series.study_uid, []).append(series)
        if series.volumes:
            study_of_series[series.series_uid] = series.study_uid
    labels: dict[str, list[LabelFile]] = {}
    told: dict[str, list[Finding]] = {}
    strays: list[Finding] = []
    for series in scan.series:
        for instance in series.files:
            if not is_label_file(instance):
                continue
            label = instance.source.label
            try:
                file = read_label_file(instance, wanted)
            except CaseError as error:
                text = f"{error}; its labels were left out"
                told.setdefault(series.study_uid, []).append(Finding(error.code, "warning", text, label))
                continue
            homes = sorted(study_of_series.keys() & file.content.series_uids)
            home = study_of_series[homes[0]] if homes else series.study_uid
            if any(other.volumes for other in by_uid.get(home, ())):
                labels.setdefault(home, []).append(file)
            else:
                text = "labels of images that are not here; name their folder too"
                strays.append(Finding("NO_USABLE_SERIES", "warning", text, label))
    studies = [
        Study(
            uid=uid,
            series=tuple(series),
            labels=tuple(labels.get(uid, ())),
            findings=tuple(told.get(uid, ())),
            folder=_folder(series),
            patient_key=_patient_key(series),
        )
        for uid, series in by_uid.items()
        if not _labels_only(series)
    ]
    return studies, strays


def _labels_only(series: Sequence[Series]) -> bool:
    return all(is_label_file(instance) for one in series for instance in one.files)


def _folder(series: Sequence[Series]) -> str:
    """The deepest folder with all of a study's images (or files, where it has no volume)."""
    with_images = [one for one in series if one.volumes] or list(series)
    parents = [PurePosixPath(f.source.label).parent.parts for one in with_images for f in one.files]
    common: list[str] = []
    for names in zip(*parents, strict=False):
        if len(set(names)) > 1:
            break
        common.append(names[0])
    return "/".join(common)


def _patient_key(series: Sequence[Series]) -> str:
    keys = (instance.header.get("Patient.Key") for one in series for instance in one.files)
    return next((key for key in keys if key), "")


def common_modality(studies: Sequence[Study], conditions: Mapping[str, str]) -> str:
    """The one modality of a dataset."""
    labelled: Counter[str] = Counter()
    every: Counter[str] = Counter()
    for study in studies:
        plans = [plan for plan in study.volumes if _meets(plan, conditions)]
        every.update({plan.modality for plan in plans})
        labelled.update({plan.modality for plan in plans if study.labels_of(plan)})
    counts = labelled or every
    return min(counts, key=lambda modality: (-counts[modality], modality), default="OT")


def choose(study: Study, modality: str, conditions: Mapping[str, str]) -> VolumePlan | None:
    """The volume of a study that becomes its case; None where it has none that will do."""
    plans = [plan for plan in study.volumes if plan.modality == modality and _meets(plan, conditions)]

    def rank(plan: VolumePlan) -> tuple[bool, bool, bool, int]:
        images = len(plan.planes) * plan.frames
        return not study.labels_of(plan), plan.correction is not None, plan.frames == 1, -images

    return min(plans, key=rank, default=None)


def _meets(plan: VolumePlan, conditions: Mapping[str, str]) -> bool:
    values = {
        "modality": plan.modality,
        "description": plan.description,
        "volume": plan.name,
        "series_uid": plan.series_uid,
        "study_uid": plan.study_uid,
    }
    return all(
        fnmatch.fnmatchcase(values[name].lower(), pattern.lower()) for name, pattern in conditions.items()
    )


def case_ids(studies: Sequence[Study], names: str) -> list[str]:
    """A name for the case of every study: digest of its UID, or its folder's name.

    Neither PatientID nor a patient's name is ever used; whether folders are named after patients, only the
    user knows, and so the digest is what is used unless folders are asked for.

    Raises:
        DatasetError: two studies lie in folders of one name, or one in none.
    """
    if names == "uid":
        return [f"study-{hashlib.sha256(study.uid.encode()).hexdigest()[:10]}" for study in studies]
    made = [safe_name(study.folder.rpartition("/")[2]) if study.folder else "" for study in studies]
    for name, count in Counter(made).items():
        if not name or count > 1:
            where = (
                f"{count} studies lie in folders called {name}"
                if name
                else "a study lies in no folder of its own"
            )
            raise DatasetError(f"{where}, so folders cannot name cases; let digests name them (names uid)")
    return made
