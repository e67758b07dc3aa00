"""DICOM as the network sees it: the same as NIfTI, PET in SUV on the CT, and how fast the heart beats."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medmtl.data import ingest
from medmtl.data.dataset import open_dataset
from medmtl.data.dicom import load, scan
from medmtl.data.formats import Dicom
from medmtl.data.prepare import Preparation
from medmtl.inference import Model
from medmtl.inference.find import Rule, find_items, parse_rule
from medmtl.inference.heartrate import heart_rate
from medmtl.inference.items import Item
from medmtl.inference.predictor import predict_prepared
from medmtl.inference.read import read_subject
from medmtl.types import CaseError
from tests.helpers import dicom_writer as writer


def cine(folder: Path, **tags: Any) -> Path:
    values = np.random.default_rng(3).integers(0, 800, (16, 16, 4, 3))
    export = writer.ge_cine(values, writer.grid(4))
    export.tags |= tags
    return writer.write(export, folder)


@dataclass(frozen=True)
class Reads:
    """As much of a model as reading needs."""

    channels: tuple[str, ...] = ("image",)
    columns: dict[str, Any] = field(default_factory=dict)
    covariates: tuple[str, ...] = ()
    preparation: Preparation = Preparation((None, None, None), (16, 16, 8), "none")  # noqa: RUF009
    select: Rule = field(default_factory=Rule)


def read(item: Item, model: Any, **options: Any) -> Any:
    return read_subject(item, model, **options)


def only(source: Path, model: Any, **options: Any) -> Item:
    (item,) = find_items([source], model, **options)
    return item


def test_a_study_says_bit_for_bit_what_its_ingested_nifti_says(model: Model, tmp_path: Path) -> None:
    folder = cine(tmp_path / "dicom")
    ingest([folder], tmp_path / "dataset", format=Dicom())
    model.channels = open_dataset(tmp_path / "dataset").channels
    model.select = Rule()
    context = model.context(torch.device("cpu"))
    subjects = [read_subject(only(source, model), model) for source in (folder, tmp_path / "dataset")]
    first, second = (subject.case for subject in subjects)
    assert torch.equal(first.image, second.image)
    assert np.array_equal(first.affine, second.affine)
    assert np.array_equal(first.source.affine, second.source.affine)
    assert (first.is_4d, first.time_step_ms) == (second.is_4d, second.time_step_ms)
    results = [predict_prepared(context, case, tuple(model.tasks)) for case in (first, second)]
    assert results[0].values == results[1].values
    for name, volume in results[0].dense.items():
        assert np.array_equal(volume, results[1].dense[name], equal_nan=True)


def test_a_cine_brings_its_plan_its_times_and_its_heart_rate(tmp_path: Path) -> None:
    item = only(cine(tmp_path, HeartRate=72), Reads())
    subject = read(item, Reads())
    assert subject.image.shape == (16, 16, 4, 3)
    assert [plan.name for plan in subject.plans] == [subject.chosen] == [item.chosen]
    assert subject.series_uid == item.series_uid
    assert len(subject.time_ms) == 3
    assert (subject.heart_rate_bpm, subject.heart_rate_from) == (72.0, "HeartRate")
    assert subject.case.case_id == item.case_id


def test_what_the_reader_warns_of_comes_along(tmp_path: Path) -> None:
    (tmp_path / "x.dcm").write_bytes(b"")
    subject = read(only(cine(tmp_path), Reads()), Reads())
    assert [(finding.code, finding.severity) for finding in subject.findings] == [("TRUNCATED", "warning")]
    assert {finding.case_id for finding in subject.findings} == {subject.case.case_id}


def test_a_study_that_was_refused_while_it_was_found_stays_so(tmp_path: Path) -> None:
    item = only(cine(tmp_path), Reads(), select="modality=CT")
    with pytest.raises(CaseError, match="is MR, not CT") as caught:
        read(item, Reads())
    assert caught.value.code == "NO_USABLE_SERIES"


def test_files_that_are_gone_by_now_are_told(tmp_path: Path) -> None:
    item = only(cine(tmp_path / "a"), Reads())
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(CaseError, match="gone since it was found") as caught:
        read(item, Reads())
    assert caught.value.code == "NO_USABLE_SERIES"


def test_a_series_that_lost_a_file_meanwhile_is_refused_with_the_reason(tmp_path: Path) -> None:
    folder = cine(tmp_path)
    item = only(folder, Reads())
    (folder / "IM0004").unlink()
    with pytest.raises(CaseError) as caught:
        read(item, Reads())
    assert caught.value.code in ("INCOMPLETE_GRID", "GAP")


def test_pixels_that_are_cut_off_are_refused(tmp_path: Path) -> None:
    folder = cine(tmp_path)
    item = only(folder, Reads())
    whole = (folder / "IM0004").read_bytes()
    (folder / "IM0004").write_bytes(whole[:-100])
    with pytest.raises(CaseError) as caught:
        read(item, Reads())
    assert caught.value.code in ("TRUNCATED", "INCOMPLETE_GRID")


def test_a_scan_without_a_choice_is_chosen_from_while_reading(tmp_path: Path) -> None:
    folder = cine(tmp_path)
    writer.write(replace(writer.ct(), name="ge"), tmp_path / "ct")
    bare = Item("study:1", "1", "dicom", (str(folder),))
    rule = parse_rule({"modality": "CT"}, ["image"])
    subject = read(bare, Reads(), scanned=scan([tmp_path]), rule=rule)
    assert subject.plans[0].modality == "CT"
    assert subject.left[0] == "1 series left: 1 modality"


def test_a_check_is_asked_and_may_stop_the_reading(tmp_path: Path) -> None:
    def check() -> None:
        raise CaseError("TIMEOUT", "too long")

    item = only(cine(tmp_path), Reads())
    with pytest.raises(CaseError, match="too long"):
        read(item, Reads(), check=check)


class TestTwoChannels:
    """PET on the CT's grid, in SUV."""

    rule = parse_rule({"ct": {"modality": "CT"}, "pet": {"modality": "PT"}}, ["ct", "pet"])
    reads = Reads(("ct", "pet"), select=rule)

    def study(self, tmp_path: Path, **moved: float) -> Path:
        uid = writer.uid("both", "study")
        ct = replace(writer.ct(), name="ct of both")
        ct.tags |= {"StudyInstanceUID": uid}
        writer.write(ct, tmp_path / "ct")
        pet = replace(writer.pet(), name="pet of both")
        pet.tags |= {"StudyInstanceUID": uid}
        for frame in pet.frames:
            frame.position = frame.position + np.array([moved.get("x", 0.0), 0.0, 0.0])
        writer.write(pet, tmp_path / "pet")
        return tmp_path

    def test_the_pet_lies_on_the_ct_and_is_suv(self, tmp_path: Path) -> None:
        item = only(self.study(tmp_path), self.reads)
        assert item.chosen.count("+") == item.series_uid.count("+") == 1
        subject = read(item, self.reads)
        ct, pet = (load(plan) for plan in subject.plans)
        assert pet.unit == "SUVbw"
        image = subject.case.image[0].numpy()
        inverse = np.linalg.inv(pet.plan.affine)
        for voxel in ([2, 3, 1], [6, 6, 2], [0, 0, 0]):
            world = subject.case.affine @ [*voxel, 1]
            place = np.clip((inverse @ world)[:3], 0, np.array(pet.array.shape) - 1)
            low = np.floor(place).astype(int)
            high = np.minimum(low + 1, np.array(pet.array.shape) - 1)
            part = place - low
            corners = [
                (part[0] if i else 1 - part[0])
                * (part[1] if j else 1 - part[1])
                * (part[2] if k else 1 - part[2])
                * float(pet.array[(high if i else low)[0], (high if j else low)[1], (high if k else low)[2]])
                for i in (0, 1)
                for j in (0, 1)
                for k in (0, 1)
            ]
            assert image[(1, *voxel)] == pytest.approx(sum(corners), rel=1e-3, abs=1e-4)
        assert subject.case.source.shape == ct.plan.shape

    def test_a_pet_of_another_part_of_the_body_is_refused(self, tmp_path: Path) -> None:
        item = only(self.study(tmp_path, x=500.0), self.reads)
        with pytest.raises(CaseError, match="covers 0 %") as caught:
            read(item, self.reads)
        assert caught.value.code == "MIXED_GRID"

    def test_a_model_of_one_channel_does_not_take_two(self, tmp_path: Path) -> None:
        item = only(self.study(tmp_path), self.reads)
        with pytest.raises(CaseError, match="has 2 channels, the model needs 1"):
            read(item, Reads())


@pytest.mark.parametrize(
    ("tags", "rate", "told"),
    [
        ({"HeartRate": 60}, 60.0, "HeartRate"),
        ({"HeartRate": 0, "NominalInterval": 800}, 75.0, "NominalInterval"),
        ({"HeartRate": 6500, "NominalInterval": 1000}, 60.0, "NominalInterval"),
    ],
)
def test_the_heart_rate_comes_from_the_first_plausible_element(
    tags: dict[str, Any], rate: float, told: str, tmp_path: Path
) -> None:
    (series,) = scan([cine(tmp_path, **tags)]).series
    assert heart_rate(series.volumes[0]) == (rate, told)


def test_trigger_times_of_one_beat_say_the_heart_rate(tmp_path: Path) -> None:
    (series,) = scan([writer.write(writer.ge_cine(phases=20), tmp_path)]).series
    plan = series.volumes[0]
    assert plan.time is not None
    assert plan.time.step_ms is not None
    assert heart_rate(plan) == (pytest.approx(60000 / (20 * plan.time.step_ms)), "trigger times")


def test_times_that_make_no_beat_say_nothing(tmp_path: Path) -> None:
    (series,) = scan([writer.write(writer.fmri(), tmp_path)]).series
    assert heart_rate(series.volumes[0]) is None
