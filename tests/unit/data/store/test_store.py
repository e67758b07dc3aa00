"""The store holds what preparing gives, whatever happened while it was written."""

from __future__ import annotations

import json
import logging
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medmtl.data import Dataset, open_dataset
from medmtl.data.augment import Augmentation
from medmtl.data.batch import TrainingBatches
from medmtl.data.load import prepare_cases
from medmtl.data.prepare import Preparation
from medmtl.data.store import Recipe, Store, prepared_bytes
from medmtl.data.store.arrays import CHUNK_VOXELS, chunk_shape, packed, read
from medmtl.data.store.size import check_disk
from medmtl.types import ConfigError, OutputError
from tests.helpers.study import write_study

PREPARATION = Preparation((1.2, 1.2, None), (16, 16, 4))
MEDMTL = Path(__file__).parents[4]


@pytest.fixture
def study(tmp_path: Path) -> Dataset:
    return open_dataset(write_study(tmp_path / "dataset", splits=["train"] * 5))


def recipe_of(dataset: Dataset, *wanted: str, preparation: Preparation = PREPARATION) -> Recipe:
    names = wanted or tuple(n for n, c in dataset.columns.items() if c.kind in ("mask", "map"))
    return Recipe(preparation, {name: dataset.columns[name] for name in names})


def made(folder: Path, dataset: Dataset, *wanted: str, workers: int = 1) -> Store:
    store = Store(folder, dataset, recipe_of(dataset, *wanted))
    store.prepare(dataset.cases, workers=workers)
    return store


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


# --------------------------------------------------------------------------------------------- refused


def test_a_folder_that_holds_something_else_is_left_alone(study: Dataset, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(OutputError, match=r"mine: holds thesis.txt, which is not part of a store"):
        made(tmp_path / "mine", study)
    assert contents(tmp_path / "mine") == {"thesis.txt": b"precious"}


def test_too_little_disk_is_said_with_the_numbers_before_anything_is_written(
    study: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(
        ConfigError, match=r"5 cases still to be prepared take up to 1000 TB, and .* are free at"
    ):
        check_disk(tmp_path / "store", 10**15, study.cases)


def test_a_store_that_another_run_reads_is_not_taken_away(study: Dataset, tmp_path: Path) -> None:
    reading = made(tmp_path / "store", study)
    before = contents(tmp_path / "store")
    other = Store(
        tmp_path / "store", study, recipe_of(study, preparation=Preparation((2.0, 2.0, None), (16, 16, 4)))
    )
    with pytest.raises(ConfigError, match=r"made anew \(spacing_mm was .*\), and another run reads it"):
        other.prepare(study.cases, workers=1)
    assert contents(tmp_path / "store") == before
    reading.close()
    other.prepare(study.cases, workers=1)
    assert contents(tmp_path / "store") != before


# ------------------------------------------------------------------------------------------ invalidated


def test_a_store_of_another_version_is_made_anew_with_one_sentence(
    study: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made(tmp_path / "store", study).close()
    before = contents(tmp_path / "store")
    marker = tmp_path / "store" / "store.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "medmtl_store": 7}))
    with caplog.at_level(logging.WARNING):
        made(tmp_path / "store", study).close()
    (record,) = caplog.records
    assert (
        "all cases are made anew: it is a store of version 7, this medmtl makes version 1" in record.message
    )
    assert contents(tmp_path / "store") == before


@pytest.mark.parametrize("damage", ["", "{", "[]"])
def test_a_damaged_marker_makes_it_anew(study: Dataset, tmp_path: Path, damage: str) -> None:
    made(tmp_path / "store", study).close()
    before = contents(tmp_path / "store")
    (tmp_path / "store" / "store.json").write_text(damage)
    made(tmp_path / "store", study).close()
    assert contents(tmp_path / "store") == before


def test_the_key_of_the_plan_that_changed_is_named(
    study: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made(tmp_path / "store", study, "anatomy").close()
    for preparation, wanted, words in (
        (Preparation((1.2, 1.2, None), (99, 9, 9)), ("anatomy",), ""),
        (
            Preparation((1.2, 1.2, None), (16, 16, 4), "none"),
            ("anatomy",),
            "normalization was zscore and is none",
        ),
        (Preparation((1.2, 1.2, None), (16, 16, 4), "none"), ("anatomy", "t1"), "column t1 was not prepared"),
        (Preparation((1.2, 1.2, None), (16, 16, 4), "none"), ("anatomy",), ""),
    ):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            store = Store(tmp_path / "store", study, recipe_of(study, *wanted, preparation=preparation))
            store.prepare(study.cases, workers=1)
        assert words in " ".join(record.message for record in caplog.records)
        assert bool(words) == bool(caplog.records)
        store.close()


def test_a_changed_file_is_named_and_its_case_alone_made_anew(
    study: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made(tmp_path / "store", study).close()
    before = contents(tmp_path / "store")
    path = study.cases[1].files["anatomy"]
    path.write_bytes(study.cases[2].files["anatomy"].read_bytes())
    with caplog.at_level(logging.WARNING):
        made(tmp_path / "store", study).close()
    assert "1 cases are made anew, as their files changed: c1 (anatomy changed)" in caplog.text
    after = contents(tmp_path / "store")
    assert {name.split("/")[1].split(".")[0] for name in before if before[name] != after[name]} == {"c1"}


def test_a_file_with_a_new_date_and_the_same_content_changes_nothing(
    study: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made(tmp_path / "store", study).close()
    array = next((tmp_path / "store" / "cases" / "c0").iterdir())
    date = array.stat().st_mtime_ns
    os.utime(study.cases[0].images[0], ns=(1, 1))
    with caplog.at_level(logging.WARNING):
        made(tmp_path / "store", study).close()
    assert not caplog.records
    assert array.stat().st_mtime_ns == date
    entry = json.loads((tmp_path / "store" / "cases" / "c0.json").read_text())
    assert entry["inputs"]["image 0"]["mtime_ns"] == 1


def test_an_array_that_is_too_short_is_made_anew(study: Dataset, tmp_path: Path) -> None:
    made(tmp_path / "store", study).close()
    before = contents(tmp_path / "store")
    array = next((tmp_path / "store" / "cases" / "c3").glob("*image*"))
    array.write_bytes(array.read_bytes()[:-1])
    (tmp_path / "store" / "cases" / "c2.json").write_text("{")
    made(tmp_path / "store", study).close()
    assert contents(tmp_path / "store") == before


def test_a_case_that_cannot_be_used_is_remembered_until_its_file_changes(
    study: Dataset, tmp_path: Path
) -> None:
    path = study.cases[0].images[0]
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    store = made(tmp_path / "store", study)
    cases, refused = store.open(study.cases, columns=study.columns)
    assert [case.case_id for case in cases] == ["c1", "c2", "c3", "c4"]
    assert [(finding.case_id, finding.code) for finding in refused] == [("c0", "TRUNCATED")]
    store.close()
    path.write_bytes(good)
    cases, refused = made(tmp_path / "store", study).open(study.cases, columns=study.columns)
    assert (len(cases), refused) == (5, [])


# ---------------------------------------------------------------------------------------------- the same


def test_stored_cases_are_what_cases_in_memory_are(study: Dataset, tmp_path: Path) -> None:
    stored, _ = made(tmp_path / "store", study).open(
        study.cases, columns=study.columns, covariates=["height"]
    )
    prepared, _ = prepare_cases(study, study.cases, PREPARATION, covariates=["height"])
    for a, b in zip(stored, prepared, strict=True):
        assert torch.equal(a.image, b.image)
        assert list(a.masks) == list(b.masks)
        for name in b.masks:
            assert torch.equal(a.masks[name], b.masks[name])
        for name in b.maps:
            assert torch.equal(a.maps[name].nan_to_num(-1), b.maps[name].nan_to_num(-1))
        assert torch.equal(a.foreground, b.foreground)
        assert torch.equal(a.covariates.nan_to_num(-1), b.covariates.nan_to_num(-1))
        for name in (
            "case_id",
            "spacing_mm",
            "is_4d",
            "labelled",
            "values",
            "frame_ed",
            "frame_es",
            "centre",
            "extent",
        ):
            assert getattr(a, name) == getattr(b, name), name
        assert np.array_equal(a.affine, b.affine)
        assert a.source.differs_from(b.source) == ""
        assert (a.shape, a.n_frames) == (b.shape, b.n_frames)


@pytest.mark.parametrize("focus", ["organ", "foreground"])
def test_batches_from_a_store_are_those_from_memory_to_the_last_bit(
    study: Dataset, tmp_path: Path, focus: Any
) -> None:
    stored, _ = made(tmp_path / "store", study).open(study.cases, columns=study.columns)
    prepared, _ = prepare_cases(study, study.cases, PREPARATION)
    options: dict[str, Any] = {
        "batch_size": 2,
        "augmentation": Augmentation(zoom=0.2, warp_voxels=1.0),
        "focus": focus,
    }
    a = TrainingBatches(stored, study.columns, (8, 8, 4), ahead=2, **options)
    b = TrainingBatches(prepared, study.columns, (8, 8, 4), **options)
    for step in (0, 1, 2, 7, 3):
        one, other = a.batch(step), b.batch(step)
        assert one.case_ids == other.case_ids
        assert torch.equal(one.image, other.image)
        assert one.targets.keys() == other.targets.keys()
        for name in one.targets:
            assert torch.equal(one.targets[name].nan_to_num(-9), other.targets[name].nan_to_num(-9))


def test_a_store_with_more_columns_serves_a_run_that_wants_fewer(study: Dataset, tmp_path: Path) -> None:
    made(tmp_path / "store", study).close()
    before = contents(tmp_path / "store")
    store = made(tmp_path / "store", study, "tissue")
    assert contents(tmp_path / "store") == before
    stored, _ = store.open(study.cases, columns={"tissue": study.columns["tissue"]})
    prepared, _ = prepare_cases(study, study.cases, PREPARATION, wanted=["tissue"])
    for a, b in zip(stored, prepared, strict=True):
        assert list(a.masks) == ["tissue"]
        assert (a.centre, a.extent, a.labelled) == (b.centre, b.extent, b.labelled)
        assert torch.equal(a.foreground[:, 1:], b.foreground[:, 1:])


def test_a_label_of_the_table_may_change_without_anything_being_prepared_again(
    study: Dataset, tmp_path: Path
) -> None:
    made(tmp_path / "store", study).close()
    before = contents(tmp_path / "store")
    table = study.root / "cases.csv"
    table.write_text(table.read_text().replace("c0,c0,train", "c0,c0,test"))
    again = open_dataset(study.root)
    store = made(tmp_path / "store", again)
    assert contents(tmp_path / "store") == before
    assert len(store.open(again.select("train"), columns=again.columns)[0]) == 4


def test_the_size_is_known_before_anything_is_prepared(study: Dataset, tmp_path: Path) -> None:
    prepared, _ = prepare_cases(study, study.cases, PREPARATION)
    for case, one in zip(study.cases, prepared, strict=True):
        real = sum(t.nbytes for t in (one.image, *one.masks.values(), *one.maps.values()))
        assert prepared_bytes(study, case, recipe_of(study)) == pytest.approx(real, rel=0.15)


@pytest.mark.slow
def test_the_order_and_the_number_of_processes_do_not_matter(study: Dataset, tmp_path: Path) -> None:
    made(tmp_path / "one", study).close()
    made(tmp_path / "two", study, workers=2).close()
    third = Store(tmp_path / "three", study, recipe_of(study))
    for case in random.Random(0).sample(study.cases, len(study.cases)):
        third.prepare([case], workers=1)
    assert contents(tmp_path / "one") == contents(tmp_path / "two") == contents(tmp_path / "three")


# --------------------------------------------------------------------------------------------- stopped

PREPARE = """
import sys
from pathlib import Path
from medmtl.data import open_dataset
from medmtl.data.prepare import Preparation
from medmtl.data.store import Recipe, Store
dataset = open_dataset(sys.argv[1])
columns = {n: c for n, c in dataset.columns.items() if c.kind in ("mask", "map")}
recipe = Recipe(Preparation((1.2, 1.2, None), (16, 16, 4)), columns)
store = Store(Path(sys.argv[2]), dataset, recipe)
print("begin", flush=True)
store.prepare(dataset.cases, workers=int(sys.argv[3]))
"""


def start(study: Dataset, store: Path, workers: int, **options: Any) -> subprocess.Popen[str]:
    call = [sys.executable, "-c", PREPARE, str(study.root), str(store), str(workers)]
    return subprocess.Popen(
        call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=MEDMTL, **options
    )


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_and_ends_with_the_same_bytes(study: Dataset, tmp_path: Path) -> None:
    made(tmp_path / "whole", study).close()
    moments = random.Random(1)
    for _ in range(3):
        process = start(study, tmp_path / "store", 1)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(moments.uniform(0.0, 0.6))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    made(tmp_path / "store", study).close()
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a limit of file sizes")
def test_where_nothing_more_can_be_written_nothing_half_written_counts(
    study: Dataset, tmp_path: Path
) -> None:
    made(tmp_path / "whole", study).close()
    largest = max(len(data) for data in contents(tmp_path / "whole").values())

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest - 1, largest - 1))

    process = start(study, tmp_path / "store", 1, preexec_fn=limit)
    _, errors = process.communicate()
    assert process.returncode != 0
    assert "OutputError" in errors
    assert "what is whole is kept" in errors
    for name, data in contents(tmp_path / "store").items():
        assert data == contents(tmp_path / "whole")[name], "whole or not there"
    made(tmp_path / "store", study).close()
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")


# ----------------------------------------------------------------------------------------------- chunks


@pytest.mark.parametrize(
    "shape",
    [(2, 1, 512, 512, 400), (30, 1, 256, 256, 10), (1, 1, 8, 8, 4), (1, 2, 700, 3, 3), (2, 64, 64, 64)],
)
def test_chunks_hold_one_frame_and_about_a_cube(shape: tuple[int, ...]) -> None:
    chunk = chunk_shape(shape)
    assert chunk[: len(shape) - 3] == (1,) * (len(shape) - 3)
    assert all(c <= n for c, n in zip(chunk, shape, strict=True))
    assert np.prod(chunk) <= CHUNK_VOXELS
    assert np.prod(chunk) * 4 > min(CHUNK_VOXELS, np.prod(shape[-3:]))


def test_the_same_numbers_are_the_same_bytes_and_come_back(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(2, 1, 40, 37, 9)).astype(np.float32)
    data = packed(array)
    assert data == packed(np.asfortranarray(array))
    (tmp_path / "a.b2nd").write_bytes(data)
    assert np.array_equal(read(tmp_path / "a.b2nd"), array)
    box = (slice(1, 2), slice(None), slice(3, 40), slice(0, 5), slice(8, 9))
    assert np.array_equal(read(tmp_path / "a.b2nd", box), array[box])


def test_a_file_that_is_no_array_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.b2nd").write_bytes(b"nothing")
    for path in (tmp_path / "a.b2nd", tmp_path / "missing.b2nd"):
        with pytest.raises(OutputError, match="remove the store, and it is made anew"):
            read(path)
