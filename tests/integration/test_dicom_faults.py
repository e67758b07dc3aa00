"""Every fault that DICOM can have, planted alone and with another: the right volume, or the right code."""

from __future__ import annotations

import tempfile
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medmtl.data.dicom import load, scan
from medmtl.data.dicom.model import LoadedVolume
from medmtl.data.phantom import make_case
from medmtl.report.remedies import REMEDIES
from medmtl.types import CaseError, Finding
from tests.helpers import dicom_writer as writer
from tests.helpers.dicom_faults import FAULTS, OTHER_PIXELS, pairs
from tests.helpers.dicom_writer import Export, write

EXPORTS: dict[str, Callable[[], Export]] = {
    "ge": writer.ge_cine,
    "siemens": writer.siemens_cine,
    "philips": writer.philips_cine,
    "phases": writer.phase_series_cine,
    "fmri": writer.fmri,
    "mosaic": writer.mosaic,
    "mr": writer.mr_volume,
    "enhanced": writer.enhanced_volume,
    "ct": writer.ct,
    "pet": writer.pet,
}
MAKERS = list(EXPORTS.values())
SUV_OF_BQML = 70_000.0 / (370e6 * 2 ** (-3600 / 6586.2))
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
SECRETS = ("Nobody", "secret-1", "19000101", "Zoë", "ller")
MASKING = {"GAP", "INCOMPLETE_GRID", "SINGLE_SLICE"}
"""What is left to say where one fault has taken the slice in which the other one is."""
PAIR_STRIDE = 4  # a quarter of all pairs, evenly spread, keeps this within seconds


@dataclass
class Read:
    """What medmtl made of a folder."""

    volumes: list[LoadedVolume]
    findings: list[Finding]

    @property
    def codes(self) -> set[str]:
        return {finding.code for finding in self.findings}


def read(*sources: Path, strict: bool = False) -> Read:
    found = scan(sources, strict=strict)
    findings = [*found.findings, *(finding for series in found.series for finding in series.findings)]
    volumes = []
    for plan in (plan for series in found.series for plan in series.volumes):
        findings += plan.findings
        try:
            volumes.append(load(plan))
        except CaseError as error:
            findings.append(Finding(error.code, "error", str(error)))
        else:
            findings += volumes[-1].findings
    assert not [f for f in findings if any(secret in f"{f.message}{f.where}" for secret in SECRETS)]
    return Read(volumes, findings)


def misplaced(volume: LoadedVolume, export: Export, or_plus: float = 0.0) -> int:
    """Voxels inside the truth's field of view that do not hold the ramp of their place and phase."""
    plan = volume.plan
    to_truth = np.linalg.inv(export.affine) @ LPS @ plan.affine
    shape = plan.shape[:3]
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    place = index @ to_truth[:3, :3].T + to_truth[:3, 3]
    inside = ((place > -1e-3) & (place < np.array([writer.COLUMNS, writer.ROWS, writer.SLICES]) - 0.999)).all(
        -1
    )
    assert inside.any(), "the volume lies where nothing was scanned"
    ramp = place @ (1, writer.ROW_STEP, writer.SLICE_STEP)
    frames = volume.array.reshape(*shape, -1).astype(np.float64)
    frames = frames / (SUV_OF_BQML if volume.unit == "SUVbw" and export.tags["Units"] == "BQML" else 1.0)
    wrong, last = 0, -1
    for frame in np.moveaxis(frames, -1, 0):
        apart = frame[inside] - ramp[inside]
        phase = round(float(np.median(apart)) / writer.PHASE_STEP)
        apart = np.abs(apart - phase * writer.PHASE_STEP)
        wrong += int((np.minimum(apart, np.abs(apart - or_plus)) > 0.51).sum())
        wrong += int(phase <= last)
        last = phase
    return wrong


def whole(volume: LoadedVolume, export: Export) -> bool:
    """Whether it is all of the truth: every slice, every phase."""
    sizes = np.linalg.norm(export.affine[:3, :3], axis=0)
    return (
        volume.plan.shape[:3] == (writer.COLUMNS, writer.ROWS, writer.SLICES)
        and volume.plan.frames == export.phases
        and np.allclose(volume.plan.spacing_mm, sizes, rtol=1e-4)
    )


def check(export: Export, got: Read, *names: str) -> None:
    """What a reader owes for the faults of these names, whatever else it does."""
    faults = [FAULTS[name] for name in names]
    doubled = {"same_uid_other_pixels", "duplicate_position"} & set(names)
    for volume in got.volumes:
        wrong = misplaced(volume, export, OTHER_PIXELS if len(names) > 1 and doubled else 0.0)
        assert wrong == 0, f"{volume.plan.name} is wrong, codes {got.codes}"
    codes = frozenset().union(*(fault.codes for fault in faults))
    if codes:
        assert got.codes & (codes | (MASKING if len(names) > 1 else set())), got.findings
    if all(fault.owes == "all" for fault in faults):
        assert [whole(volume, export) for volume in got.volumes] == [True], got.findings
    if any(fault.owes == "none" for fault in faults):
        assert got.volumes == []
    if not got.volumes:
        assert any(finding.severity == "error" for finding in got.findings)


# ------------------------------------------------------------------------------------- nothing wrong


@pytest.mark.parametrize("name", EXPORTS)
def test_what_nothing_is_wrong_with_becomes_its_volume(name: str, tmp_path: Path) -> None:
    export = EXPORTS[name]()
    got = read(write(export, tmp_path))
    check(export, got)
    assert [finding for finding in got.findings if finding.severity != "info"] == []
    (volume,) = got.volumes
    assert whole(volume, export)


@pytest.mark.parametrize("make", [writer.ge_cine, writer.siemens_cine, writer.philips_cine])
def test_the_phantom_comes_back_voxel_by_voxel_from_every_vendor(
    make: Callable[..., Export], tmp_path: Path
) -> None:
    case = make_case(3, frames=4, shape=(32, 32, 9), spacing_mm=(5.0, 5.0, 9.6))
    truth = np.moveaxis(case.images["cine"], 0, -1)
    affine = writer.grid(9, orientation=writer.AXIAL, spacing=(5.0, 5.0, 9.6))
    (volume,) = read(write(make(truth, affine), tmp_path)).volumes
    np.testing.assert_array_equal(volume.array, truth)
    np.testing.assert_allclose(volume.plan.affine, LPS @ affine, atol=1e-6)


def test_times_are_kept_per_slice_and_the_middle_of_them_told(tmp_path: Path) -> None:
    (volume,) = read(write(writer.ge_cine(), tmp_path)).volumes
    time = volume.plan.time
    assert time is not None
    assert time.by_slice_ms is not None
    expected = 46.0 * np.arange(writer.PHASES) + 1.75 * np.arange(writer.SLICES)[:, None]
    np.testing.assert_allclose(time.by_slice_ms, expected)
    assert (time.how, time.step_ms) == ("TriggerTime", pytest.approx(46.0))


# ------------------------------------------------------------------------------------- one fault, and two

SINGLE = [(fault, name) for fault in FAULTS for name, make in EXPORTS.items() if FAULTS[fault].fits(make())]


@pytest.mark.parametrize(("fault", "name"), SINGLE)
def test_a_fault_gives_the_right_volume_or_its_code(fault: str, name: str, tmp_path: Path) -> None:
    export = EXPORTS[name]()
    FAULTS[fault].plant(export)
    check(export, read(write(export, tmp_path)), fault)


@pytest.mark.parametrize(("first", "second", "number"), pairs([make() for make in MAKERS])[::PAIR_STRIDE])
def test_two_faults_at_once_give_the_right_volume_or_a_code(
    first: str, second: str, number: int, tmp_path: Path
) -> None:
    export = MAKERS[number]()
    FAULTS[first].plant(export)
    FAULTS[second].plant(export)
    check(export, read(write(export, tmp_path)), first, second)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("degrees", [16.5, -18.5])
def test_a_tilted_ct_is_put_on_a_right_angled_grid_whatever_sign_its_tag_has(
    degrees: float, sign: float, tmp_path: Path
) -> None:
    export = writer.ct(degrees, sign)
    got = read(write(export, tmp_path))
    (volume,) = got.volumes
    assert misplaced(volume, export) == 0
    columns = volume.plan.affine[:3, :3] / volume.plan.spacing_mm
    np.testing.assert_allclose(columns.T @ columns, np.eye(3), atol=1e-6)
    assert "GANTRY_TILT" in got.codes
    assert volume.unit == "HU"


@pytest.mark.parametrize("fault", ["uneven_gaps", ""])
def test_strict_refuses_what_would_be_resampled(fault: str, tmp_path: Path) -> None:
    export = writer.mr_volume() if fault else writer.ct(16.5)
    if fault:
        FAULTS[fault].plant(export)
    got = read(write(export, tmp_path), strict=True)
    assert got.volumes == []
    assert got.codes & {"NONUNIFORM_SPACING", "GANTRY_TILT"}


@pytest.mark.parametrize(
    "fault", ["huge_claim_everywhere", "a_million_frames_claimed", "length_beyond_the_file"]
)
def test_a_claim_of_gigabytes_costs_no_memory(fault: str, tmp_path: Path) -> None:
    export = writer.mr_volume()
    FAULTS[fault].plant(export)
    write(export, tmp_path)
    tracemalloc.start()
    try:
        read(tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 50e6


def test_every_code_that_a_scan_can_give_is_planted() -> None:
    planted = frozenset[str]().union(*(fault.codes for fault in FAULTS.values()))
    of_labels_and_runs = {code for code in REMEDIES if code.startswith(("LABEL_", "PACS_"))} | {
        "CHANGED_WHILE_READ",
        "OUT_OF_MEMORY",
        "TIMEOUT",
        "UNEXPECTED",
        "WORKER_DIED",
    }
    elsewhere = {"GANTRY_TILT", "NO_USABLE_SERIES", "JOINED_SERIES", "VALUE_SCALE"}
    assert set(REMEDIES) - planted == of_labels_and_runs | elsewhere


# ------------------------------------------------------------------------------------- properties


@settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data(), name=st.sampled_from(["ge", "siemens", "mr", "ct"]))
def test_names_order_and_instance_numbers_change_nothing(data: Any, name: str, tmp_path: Path) -> None:
    export = EXPORTS[name]()
    expected = read(write(export, tmp_path / f"{name}-as-it-was"))
    files = len(export.frames)
    order = data.draw(st.permutations(range(files)), label="order of the names")
    instances = data.draw(st.permutations(range(1, files + 1)), label="InstanceNumber")
    for frame, number in zip(export.frames, instances, strict=True):
        frame.tags["InstanceNumber"] = number
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        got = read(write(export, Path(folder), lambda number: f"{order[number]:x}"))
    (one,), (other,) = expected.volumes, got.volumes
    np.testing.assert_array_equal(one.array, other.array)
    np.testing.assert_array_equal(one.plan.affine, other.plan.affine)
    assert expected.codes == got.codes
    if one.plan.time is not None and other.plan.time is not None:
        np.testing.assert_array_equal(one.plan.time.times_ms, other.plan.time.times_ms)
