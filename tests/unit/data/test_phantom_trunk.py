"""Phantoms of the trunk: what they hold, that their class lies far from what is segmented, their folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medmtl.data import ingest, open_dataset
from medmtl.data.formats import find_format
from medmtl.data.phantom import Scan, generate_ct, generate_petct, make_ct, make_petct
from medmtl.types import ConfigError, OutputError

SHAPE = (96, 96, 48)
TINY = (40, 40, 20)
MAKERS = [make_ct, make_petct]


@pytest.mark.parametrize("generate", [generate_ct, generate_petct])
def test_numbers_that_make_no_cohort_are_refused_and_nothing_is_written(
    generate: Callable[..., Path], tmp_path: Path
) -> None:
    for wrong, sentence in (
        ({"cases": 0}, "cases is 0"),
        ({"cases": 1, "seed": -1}, "seed is -1"),
        ({"cases": 1, "shape": (96, 96, 8)}, r"shape\[2\] is 8; give a whole number of at least 16"),
        ({"cases": 2, "splits": {"train": 0.5}}, "they have to sum to 1"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            generate(tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="not an empty folder"):
        generate(tmp_path, cases=1, shape=TINY)


@pytest.mark.parametrize("make", MAKERS)
def test_a_case_follows_from_its_number_and_seed_and_two_in_a_row_hold_both_classes(
    make: Callable[..., Scan],
) -> None:
    first, again, other = make(3, shape=TINY), make(3, shape=TINY), make(3, seed=1, shape=TINY)
    for name, image in first.images.items():
        assert np.array_equal(image, again.images[name])
        assert not np.array_equal(image, other.images[name])
    column = next(name for name, value in first.values.items() if isinstance(value, str))
    for seed in (0, 1):
        classes = [make(i, seed=seed, shape=TINY).values[column] for i in range(6)]
        assert all(set(pair) == {"no", "yes"} for pair in zip(classes[::2], classes[1::2], strict=True))


def test_hounsfield_units_are_those_of_the_tissues() -> None:
    scan = make_ct(0, shape=SHAPE)
    image, organs = scan.images["ct"], scan.masks["organs"]
    assert image.dtype == np.int16
    assert organs.dtype == np.uint8
    assert abs(float(image[0, 0].mean()) + 1000) < 10
    assert 70 < float(image[organs == 1].mean()) < 130
    assert 0 < float(image[organs == 2].mean()) < 80
    assert float(image[48, 48, :8].mean()) == pytest.approx(55, abs=25)


def test_lesions_are_hot_and_their_volume_is_that_of_their_balls() -> None:
    for index in range(4):
        scan = make_petct(index, shape=(160, 160, 80))
        suv, mask = scan.images["suv"], scan.masks["lesions"]
        assert suv.dtype == np.float32
        assert float(suv.min()) >= 0
        assert float(suv[mask == 1].mean()) > 5
        measured = np.count_nonzero(mask) * scan.grid.voxel_ml
        assert measured == pytest.approx(float(scan.values["metabolic_volume"]), rel=0.12)


def boxes(scan: Scan) -> tuple[slice, ...]:
    """The box around all that is segmented below the diaphragm."""
    (mask,) = scan.masks.values()
    found = np.nonzero(mask[:, :, : mask.shape[2] // 2])
    return tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in found)


@pytest.mark.parametrize(("make", "column"), [(make_ct, "effusion"), (make_petct, "bulk")])
def test_around_what_is_segmented_below_the_diaphragm_the_classes_look_alike(
    make: Callable[..., Scan], column: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same patient drawn once of either class differs nowhere near the liver or the lesions below."""
    module = __import__(make.__module__, fromlist=["class_of"])
    for index in range(3):
        scans = {}
        for name in ("no", "yes"):
            monkeypatch.setattr(module, "class_of", lambda *_, name=name: name)
            scans[name] = make(index, shape=SHAPE)
        assert scans["no"].values[column] == "no"
        box = boxes(scans["no"])
        for channel, image in scans["no"].images.items():
            other = scans["yes"].images[channel]
            means = [float(part[box].astype(np.float64).mean()) for part in (image, other)]
            sd = float(image[box].std())
            assert abs(means[0] - means[1]) < 0.02 * sd
            assert not np.array_equal(image[:, :, 24:], other[:, :, 24:])


def test_the_same_patient_at_another_resolution_has_the_same_truth() -> None:
    coarse, fine = make_ct(1, shape=SHAPE), make_ct(1, shape=(192, 192, 96))
    assert coarse.values["effusion"] == fine.values["effusion"]
    volumes = [np.count_nonzero(s.masks["organs"] == 1) * s.grid.voxel_ml for s in (coarse, fine)]
    assert volumes[0] == pytest.approx(volumes[1], rel=0.05)


def test_fluid_is_poured_into_the_back_of_the_left_lung_and_measured() -> None:
    scans = [make_ct(index, shape=SHAPE) for index in range(4)]
    wet = next(scan for scan in scans if scan.values["effusion"] == "yes")
    dry = next(scan for scan in scans if scan.values["effusion"] == "no")
    assert dry.values["effusion_ml"] == 0
    assert 100 < float(wet.values["effusion_ml"]) < 1200
    lung = np.s_[60:70, 60:65, 35:40]  # left, back, chest
    assert float(wet.images["ct"][lung].mean()) > 0
    assert float(dry.images["ct"][lung].mean()) < -500


@pytest.mark.parametrize(
    ("generate", "name", "channels"),
    [(generate_ct, "phantom-ct", ("ct",)), (generate_petct, "phantom-petct", ("ct", "suv"))],
)
def test_a_cohort_is_ingested_as_phantoms_with_its_splits_and_its_truth(
    generate: Callable[..., Path], name: str, channels: tuple[str, ...], tmp_path: Path
) -> None:
    done: list[tuple[int, int]] = []
    raw = generate(
        tmp_path / "raw",
        cases=6,
        shape=TINY,
        splits={"train": 0.67, "test": 0.33},
        progress=lambda *step: done.append(step),
    )
    assert done[-1] == (6, 6)
    assert find_format(raw).__class__.__name__ == "Phantom"
    result = ingest(raw, tmp_path / "dataset")
    dataset = open_dataset(tmp_path / "dataset")
    assert (result.cases, result.refused) == (6, [])
    assert (dataset.name, dataset.channels) == (name, channels)
    assert [len(dataset.select(split)) for split in ("train", "test")] == [4, 2]
    column = next(n for n, c in dataset.columns.items() if c.kind == "category")
    assert sorted(dataset.targets.loc[[c.case_id for c in dataset.select("test")], column]) == ["no", "yes"]
    volume = next(n for n, c in dataset.columns.items() if c.kind == "value" and c.derived is not None)
    assert (dataset.targets[volume] > 0).all()


def test_the_same_arguments_write_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        generate_petct(tmp_path / name, cases=2, shape=TINY, workers=2)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert len(files) == 7
    for path in files:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()
