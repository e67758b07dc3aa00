"""The selection rule that training cases suggest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from medmtl.data.dataset import Case, Dataset
from medmtl.data.nifti import Geometry
from medmtl.inference.find.derive import derive_rule
from medmtl.inference.find.rule import parse_rule
from tests.helpers.dicom_writer import grid
from tests.helpers.study import make_job, make_ready, sections

STRAIGHT = np.diag([1.5, 1.5, 8.0, 1.0])
SHORT_AXIS = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid()


@dataclass(frozen=True)
class Cohort:
    """As much of a dataset as the rule follows from."""

    modality: str
    channels: tuple[str, ...]
    geometry: dict[str, Geometry]

    @property
    def cases(self) -> list[Case]:
        return [Case(name, "", "train", ()) for name in self.geometry]


def cohort(
    *grids: tuple[tuple[int, int, int], int],
    affine: np.ndarray = STRAIGHT,
    modality: str = "MR",
    channels: Sequence[str] = ("image",),
) -> Cohort:
    geometry = {str(n): Geometry(shape, frames, affine) for n, (shape, frames) in enumerate(grids)}
    return Cohort(modality, tuple(channels), geometry)


def rule_of(cohort: Cohort):  # noqa: ANN201
    return derive_rule(cohort, cohort.cases).channels  # type: ignore


@pytest.mark.parametrize(
    ("frames", "wanted"), [((2, 30), (2, None)), ((1, 1), (1, 1)), ((1, 30), (None, None))]
)
def test_frames_are_as_in_training(frames: tuple[int, int], wanted: tuple[int | None, int | None]) -> None:
    found = rule_of(cohort(*(((64, 64, 10), n) for n in frames)))
    assert found["image"].frames == wanted


def test_half_of_the_fewest_slices_are_enough() -> None:
    assert rule_of(cohort(((64, 64, 21), 1), ((64, 64, 7), 1)))["image"].min_slices == 4
    assert rule_of(cohort(((64, 64, 2), 1)))["image"].min_slices == 2


def test_slices_are_counted_along_the_stack_however_it_is_stored() -> None:
    stored = STRAIGHT[:, [2, 0, 1, 3]]
    assert rule_of(cohort(((10, 64, 64), 1), affine=stored))["image"].min_slices == 5


def test_modalities_follow_from_the_channels_names_or_the_dataset() -> None:
    found = rule_of(cohort(((9, 9, 9), 1), modality="PT", channels=("ct", "pet_suv", "other")))
    assert [channel.modality for channel in found.values()] == [("CT",), ("PT",), ("PT",)]
    assert rule_of(cohort(((9, 9, 9), 1), modality="?"))["image"].modality == ()


def test_the_orientation_is_taken_where_files_can_be_trusted() -> None:
    one = ((64, 64, 10), 1)
    assert rule_of(cohort(one, affine=SHORT_AXIS))["image"].orientation == "short-axis"
    assert rule_of(cohort(one, modality="CT"))["image"].orientation == "axial"
    assert rule_of(cohort(one, modality="MR"))["image"].orientation == "any"


def test_a_training_puts_its_rule_into_the_model_and_the_config_wins(study: Dataset) -> None:
    job = make_job(study, study.root / "run", sections("anatomy"))
    derived = make_ready(job).model.select
    assert derived == derive_rule(study, study.select("train"))
    told = replace(job, select={"description": "*SAX*"})
    assert make_ready(told).model.select == parse_rule({"description": "*SAX*"}, study.channels, derived)
