"""An item -> its volumes on the network's grid, and what measuring and writing will need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from medmtl.data.dataset import Case
from medmtl.data.dicom.instances import read_instances
from medmtl.data.dicom.model import Scan, VolumePlan
from medmtl.data.dicom.scan import arrange, scan
from medmtl.data.formats.scanned import as_volume, load_plan
from medmtl.data.load import prepare_case
from medmtl.data.nifti import Volume, as_stored, frames_first, read_volume
from medmtl.data.prepare import LoadedImage, PreparedCase, back_to_source, prepare_channels
from medmtl.inference.body import body_of
from medmtl.inference.find.places import sources_of
from medmtl.inference.find.rule import Rule, parse_rule
from medmtl.inference.find.select import Choice, choose, sentences
from medmtl.inference.heartrate import heart_rate
from medmtl.inference.items import Item
from medmtl.inference.model import Model
from medmtl.types import CaseError, Finding

LEAST_COVERED = 0.5
"""Share of the first channel's voxels that another channel's volume has to cover."""
WELL_COVERED = 0.95
Check = Callable[[], None]


@dataclass
class Subject:
    """One study in memory.

    Attributes:
        case: on the network's grid.
        image: source voxels of the first channel ``(X, Y, Z[, T])``, for pictures.
        plans: DICOM: the plan of each channel; empty for NIfTI.
        findings: what was noticed while reading; errors refuse a study, so there are none among them.
        heart_rate_bpm: where headers say it.
        heart_rate_from: the element or rule that says it.
        time_ms: one time per frame, where headers say it.
        series_uid: as the files have it, ``+`` between channels; blank for NIfTI.
        left: which series were left and why, where that was only decided while reading.
        chosen: names of the chosen volumes.
    """

    case: PreparedCase
    image: np.ndarray | None = None
    plans: tuple[VolumePlan, ...] = ()
    findings: tuple[Finding, ...] = ()
    heart_rate_bpm: float | None = None
    heart_rate_from: str = ""
    time_ms: tuple[float, ...] | None = None
    series_uid: str = ""
    left: tuple[str, ...] = ()
    chosen: str = ""
    _held: ExitStack = field(default_factory=ExitStack, repr=False)

    def close(self) -> None:
        """Let go of fetched files; the plans' files may be gone after that."""
        self._held.close()


def read_subject(
    item: Item,
    model: Model,
    *,
    scanned: Scan | None = None,
    rule: Rule | None = None,
    check: Check | None = None,
) -> Subject:
    """Read what an item names; close the subject when nothing needs its files any more.

    Args:
        item: what to read.
        model: what it is prepared for.
        scanned: what is known of its DICOM files already; by default they are looked at again.
        rule: which series to take where the item does not say; the model's by default.
        check: called between steps and while data come in; raises where the work has to stop.

    Raises:
        CaseError: it cannot be used; the code says why.
    """
    if item.refused is not None:
        raise CaseError(*item.refused)
    if item.kind == "nifti":
        return _from_nifti(item, model)
    with ExitStack() as stack:
        if scanned is None and item.kind == "web":
            scanned = _fetched(item, rule or model.select, stack, check)
        elif scanned is None:
            scanned = _scanned(item)
        choice = _chosen(item, scanned, rule or model.select, model.channels)
        subject = _from_plans(item, model, scanned, choice, check)
        subject._held = stack.pop_all()
        return subject


def _from_nifti(item: Item, model: Model) -> Subject:
    trusted = item.key.startswith("dataset:")
    volumes = [(path, read_volume(Path(path), spacing_from_pixdim=not trusted)) for path in item.paths]
    _check_channels(item, len(volumes), model)
    case = _prepared(item, model, prepare_channels(volumes, model.preparation))
    return Subject(case, volumes[0][1].array)


def _check_channels(item: Item, found: int, model: Model) -> None:
    if found != len(model.channels):
        text = f"{item.case_id}: has {found} channels, the model needs {len(model.channels)}"
        raise CaseError("MIXED_GRID", text)


def _prepared(item: Item, model: Model, loaded: LoadedImage) -> PreparedCase:
    values = dict(item.values)
    frame_ed, frame_es = (
        None if frame is None else int(float(frame))
        for frame in (values.pop(name, None) for name in ("frame_ed", "frame_es"))
    )
    case = Case(
        case_id=item.case_id,
        patient="",
        split="",
        images=(),
        frame_ed=frame_ed,
        frame_es=frame_es,
        values={name: value for name, value in values.items() if value is not None},
    )
    return prepare_case(
        case, model.columns, model.preparation, covariates=model.covariates, wanted=(), loaded=loaded
    )


def _fetched(item: Item, rule: Rule, stack: ExitStack, check: Check | None) -> Scan:
    """A PACS's study, in a temporary folder that the subject keeps."""
    from medmtl.data.dicom.web import fetched_study, fingerprint_of, parse_address

    asked = {modality for channel in rule.channels.values() for modality in channel.modality}
    modalities = asked if all(channel.modality for channel in rule.channels.values()) else set()
    folder, series = stack.enter_context(
        fetched_study(parse_address(item.paths[0]), check=check, modalities=modalities)
    )
    if item.fingerprint and fingerprint_of(series) != item.fingerprint:
        text = f"{item.case_id}: the study grew while it was waiting; run the same command again"
        raise CaseError("CHANGED_WHILE_READ", text)
    return scan([folder])


def _scanned(item: Item) -> Scan:
    """What the item's files give, other studies in the same place left out."""
    instances, findings = read_instances(sources_of(item.paths))
    if item.uids and item.uids[0]:
        uid = item.uids[0]
        instances = [one for one in instances if one.header.get("StudyInstanceUID") == uid]
    return arrange(instances, findings)


def _chosen(item: Item, scanned: Scan, rule: Rule, channels: Sequence[str]) -> Choice:
    """The volumes that the item names, or those that the rule takes where it names none.

    Raises:
        CaseError: there are none.
    """
    if not item.chosen:
        choice = choose(scanned, rule if rule.channels else parse_rule(None, channels))
        if choice.refused is not None:
            raise CaseError(*choice.refused)
        return choice
    plans = [plan for series in scanned.series for plan in series.volumes]
    found: list[VolumePlan] = []
    for name, uid in zip(item.chosen.split("+"), item.uids[1:], strict=True):
        of_series = [plan for plan in plans if plan.series_uid == uid]
        named = [plan for plan in of_series if plan.name == name] or of_series
        if len(named) != 1:
            for series in scanned.series:
                for finding in series.findings:
                    if finding.severity == "error":
                        raise CaseError(finding.code, f"{name}: {finding.message}")
            text = f"{name} is not there any more as it was found; run the same command again"
            raise CaseError("NO_USABLE_SERIES", text)
        found.append(named[0])
    return Choice(tuple(found), ())


def _from_plans(item: Item, model: Model, scanned: Scan, choice: Choice, check: Check | None) -> Subject:
    _check_channels(item, len(choice.plans), model)
    findings = [_milder(finding) for finding in scanned.findings if finding.severity != "info"]
    volumes: list[tuple[str, Volume]] = []
    for plan in choice.plans:
        loaded = load_plan(plan)
        findings += loaded.findings
        volumes.append((plan.name, as_stored(as_volume(loaded))))
        if check is not None:
            check()
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        raise CaseError(errors[0].code, errors[0].message)
    for number in range(1, len(volumes)):
        volumes[number], told = _onto(volumes[0], volumes[number])
        findings += told
    first = choice.plans[0]
    item = replace(item, values={**body_of(first, model), **item.values})
    rate = heart_rate(first) if first.frames > 1 else None
    times = first.time.times_ms if first.time is not None else None
    return Subject(
        case=_prepared(item, model, prepare_channels(volumes, model.preparation)),
        image=volumes[0][1].array,
        plans=choice.plans,
        findings=tuple(replace(finding, case_id=item.case_id) for finding in findings),
        heart_rate_bpm=None if rate is None else rate[0],
        heart_rate_from="" if rate is None else rate[1],
        time_ms=tuple(times.tolist()) if times is not None and np.isfinite(times).all() else None,
        series_uid=choice.series_uid,
        left=sentences(choice.left),
        chosen=choice.name,
    )


def _onto(first: tuple[str, Volume], other: tuple[str, Volume]) -> tuple[tuple[str, Volume], list[Finding]]:
    """Another channel on the first one's grid, linearly; what lies outside of it takes its border's value.

    Raises:
        CaseError: the two do not cover the same part of the body.
    """
    target, (name, volume) = first[1].geometry, other
    if not volume.geometry.differs_from(target):
        return other, []
    covered = _covered(first[1], volume)
    text = f"{name} covers {100 * covered:.0f} % of {first[0]}"
    if covered < LEAST_COVERED:
        raise CaseError("MIXED_GRID", f"{text}, on whose grid it is needed; see whether they belong together")
    frames = torch.from_numpy(np.ascontiguousarray(frames_first(volume.array), dtype=np.float32))
    moved = back_to_source(frames, volume.geometry.affine, target).numpy()
    array = moved[0] if volume.array.ndim == 3 else np.moveaxis(moved, 0, -1)
    geometry = replace(target, frames=volume.geometry.frames)
    told = (
        [Finding("MIXED_GRID", "warning", f"{text}; outside, its border's values stand")]
        if covered < WELL_COVERED
        else []
    )
    return (name, Volume(array, geometry, volume.time_step_ms)), told


def _covered(first: Volume, other: Volume) -> float:
    """Share of the first volume's grid (every so many-th voxel) that lies inside the other."""
    axes = [np.linspace(0, n - 1, min(n, 24)) for n in first.geometry.shape]
    points = np.stack([*np.meshgrid(*axes, indexing="ij"), np.ones([len(a) for a in axes])]).reshape(4, -1)
    inside = np.linalg.inv(other.geometry.affine) @ first.geometry.affine @ points
    limits = np.array(other.geometry.shape)[:, None]
    return float(((inside[:3] >= -0.5) & (inside[:3] <= limits - 0.5)).all(axis=0).mean())


def _milder(finding: Finding) -> Finding:
    """What is an error of a file beside the volume is a warning of the study."""
    return replace(finding, severity="warning") if finding.severity == "error" else finding
