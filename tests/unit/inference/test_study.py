"""One study through all stages: time limits, files that change, memory that runs out, errors of libraries."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import medmtl.inference.study as study_module
from medmtl.inference import Model
from medmtl.inference.clock import Clock, Stopped
from medmtl.inference.context import Context
from medmtl.inference.find import find_items
from medmtl.inference.items import Item
from medmtl.inference.ladder import Ladder, climb
from medmtl.inference.options import Options, read_key, split_names
from medmtl.inference.outcome import without_values
from medmtl.inference.predictor import predict_prepared
from medmtl.inference.read import read_subject
from medmtl.inference.study import process
from medmtl.inference.worker import Worker
from medmtl.inference.workers import Threads
from medmtl.types import CaseError, ConfigError
from tests.unit.inference.test_run import write_image


def worker_of(model: Model, output: Path, **options: Any) -> Worker:
    output.mkdir(exist_ok=True)
    return Worker(model, Options(device="cpu", **options), output, run="r1")


def item_of(model: Model, path: Path) -> Item:
    [found] = find_items([path], model)
    return found


def test_a_study_that_is_done_says_where_its_time_went(model: Model, tmp_path: Path) -> None:
    worker = worker_of(model, tmp_path / "out")
    item = item_of(model, write_image(tmp_path / "a.nii.gz"))
    found = process(worker, item)
    assert found.state == "ok"
    assert set(found.stages) == {"read", "wait", "device", "measure", "write"}
    assert found.fingerprint == item.fingerprint == item.fingerprint_now()
    record = json.loads((tmp_path / "out" / "a" / "prediction.json").read_text())
    assert record["work"] == {
        "run": "r1",
        "key": item.key,
        "fingerprint": item.fingerprint,
        "row": dict(found.row),
    }
    assert record["files"] == ["preview.npz", "segmentation.nii.gz", "t1.nii.gz", "tissue.nii.gz"]


def test_a_study_without_a_usable_series_is_refused_with_the_reason_that_was_found(
    model: Model, tmp_path: Path
) -> None:
    item = Item("study:1", "1", "dicom", (), refused=("NO_USABLE_SERIES", "17 series left"))
    found = process(worker_of(model, tmp_path / "out"), item)
    assert (found.state, found.row["code"], found.row["message"]) == (
        "refused",
        "NO_USABLE_SERIES",
        "17 series left",
    )


class TestTime:
    """The limit of a study."""

    def test_a_study_that_takes_too_long_fails_at_its_next_window(self, model: Model, tmp_path: Path) -> None:
        worker = worker_of(model, tmp_path / "out", timeout=0.001)
        found = process(worker, item_of(model, write_image(tmp_path / "a.nii.gz")))
        assert (found.state, found.row["code"]) == ("failed", "TIMEOUT")
        assert "not done after 0.001 s of work" in found.row["message"]
        assert list((tmp_path / "out").iterdir()) == []

    def test_waiting_for_the_device_is_no_work(self) -> None:
        lock, told = threading.Semaphore(0), []
        clock = Clock(0.1, tell=told.append)
        threading.Timer(0.3, lock.release).start()
        with clock.turn(lock):
            clock.check()
        assert clock.stages["wait"] > 0.25
        assert clock.seconds < 0.1
        assert told == [False, True]
        time.sleep(0.1)
        with pytest.raises(CaseError, match=r"not done after 0.1 s of work, while it was to read") as caught:
            clock.check()
        assert caught.value.code == "TIMEOUT"

    def test_the_device_is_free_again_after_a_study_that_broke_off_there(self) -> None:
        lock = threading.Semaphore(1)
        clock = Clock()
        with pytest.raises(ZeroDivisionError), clock.turn(lock):
            raise ZeroDivisionError
        assert lock.acquire(blocking=False)

    def test_windows_and_frames_ask_whether_there_is_time(self, model: Model, tmp_path: Path) -> None:
        case = read_subject(item_of(model, write_image(tmp_path / "a.nii.gz", (40, 40, 4, 2))), model).case
        asked: list[int] = []
        context = model.context(torch.device("cpu")).adapted(check=lambda: asked.append(1), at_once=1)
        predict_prepared(context, case, ["anatomy"])
        assert len(asked) > 2 * 4  # two frames of four windows at least

    def test_a_run_that_ends_leaves_the_study_for_the_next(self, model: Model, tmp_path: Path) -> None:
        worker = worker_of(model, tmp_path / "out")
        worker.stop.set()
        found = process(worker, item_of(model, write_image(tmp_path / "a.nii.gz")))
        assert found.state == "waiting"
        stopped = threading.Event()
        stopped.set()
        with pytest.raises(Stopped), Clock(stop=stopped).turn(threading.Semaphore(0)):
            pass


class TestChange:
    """Files that change while they are read."""

    @pytest.fixture(autouse=True)
    def _soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(study_module, "SETTLE_SECONDS", 0.0)

    def _growing(self, times: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Every read is followed by a change, so many times."""
        read: list[str] = []

        def reads(item: Item, *rest: Any, **options: Any) -> Any:
            read.append(item.fingerprint)
            found = read_subject(item, *rest, **options)
            if len(read) <= times:
                os.utime(item.paths[0], ns=(0, len(read)))
            return found

        monkeypatch.setattr(study_module, "read_subject", reads)
        return read

    def test_a_study_that_changed_once_is_read_again_and_noted_as_it_is_now(
        self, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        item = item_of(model, write_image(tmp_path / "a.nii.gz"))
        read = self._growing(1, monkeypatch)
        found = process(worker_of(model, tmp_path / "out"), item)
        assert found.state == "ok"
        assert found.fingerprint == item.fingerprint_now() != item.fingerprint
        assert read == [item.fingerprint, found.fingerprint]

    def test_a_study_that_goes_on_changing_is_refused(
        self, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        item = item_of(model, write_image(tmp_path / "a.nii.gz"))
        read = self._growing(9, monkeypatch)
        found = process(worker_of(model, tmp_path / "out"), item)
        assert (found.state, found.row["code"]) == ("refused", "CHANGED_WHILE_READ")
        assert len(read) == 2

    def test_half_a_file_that_became_whole_is_not_refused(self, model: Model, tmp_path: Path) -> None:
        path = write_image(tmp_path / "a.nii.gz")
        whole = path.read_bytes()
        path.write_bytes(whole[:500])
        item = item_of(model, path)
        path.write_bytes(whole)  # after it was found
        assert process(worker_of(model, tmp_path / "out"), item).state == "ok"

    def test_a_file_that_is_gone_is_refused(self, model: Model, tmp_path: Path) -> None:
        path = write_image(tmp_path / "a.nii.gz")
        item = item_of(model, path)
        path.unlink()
        assert process(worker_of(model, tmp_path / "out"), item).state == "refused"


class TestMemory:
    """The ladder of what needs less memory."""

    def test_each_rung_needs_less_of_the_device(self, model: Model) -> None:
        cpu = model.context(torch.device("cpu"))
        gpu = cpu.adapted(device=torch.device("cuda"))
        rungs = list(Ladder(gpu, lambda: cpu).rungs(lambda: None))
        assert [rung.note for rung in rungs] == [
            "",
            "one window at a time",
            "one window at a time, stitched on the CPU",
            "on the CPU",
        ]
        assert rungs[0].context.volumes_at_once > 1
        assert [rung.context.volumes_at_once for rung in rungs[1:3]] == [1, 1]
        assert [rung.context.stitch_on_cpu for rung in rungs[:3]] == [False, False, True]
        assert [rung.context.device.type for rung in rungs] == ["cuda", "cuda", "cuda", "cpu"]

    def test_the_lower_rungs_say_the_same(self, model: Model, tmp_path: Path) -> None:
        case = read_subject(item_of(model, write_image(tmp_path / "a.nii.gz", (40, 40, 4, 2))), model).case
        context = model.context(torch.device("cpu"))
        whole = predict_prepared(context, case, list(model.tasks))
        less = predict_prepared(context.adapted(at_once=1, stitch_on_cpu=True), case, list(model.tasks))
        for name, volume in whole.dense.items():
            same = np.isclose(volume, less.dense[name], rtol=1e-4, equal_nan=True)
            assert same.mean() > 0.999
        assert whole.values["disease"]["class"] == less.values["disease"]["class"]

    @pytest.mark.parametrize(
        "error",
        [
            torch.OutOfMemoryError("CUDA out of memory"),
            MemoryError(),
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        ],
    )
    def test_a_study_that_fits_only_window_by_window_is_done_and_says_so(
        self, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        def tight(context: Context, *rest: Any) -> Any:
            if context.volumes_at_once > 1:
                raise error
            return predict_prepared(context, *rest)

        monkeypatch.setattr(study_module, "predict_prepared", tight)
        found = process(
            worker_of(model, tmp_path / "out"), item_of(model, write_image(tmp_path / "a.nii.gz"))
        )
        assert found.state == "ok"
        assert found.row["message"] == (
            "the device's memory was too small, so it was computed one window at a time"
        )
        record = json.loads((tmp_path / "out" / "a" / "prediction.json").read_text())
        assert record["notes"] == ["one window at a time"]

    def test_a_study_that_never_fits_fails_and_another_error_is_no_matter_of_memory(
        self, model: Model
    ) -> None:
        def never(_: Context) -> None:
            raise MemoryError

        ladder = Ladder(model.context(torch.device("cpu")))
        with pytest.raises(CaseError, match="does not fit the memory, not even one window") as caught:
            climb(ladder.rungs(lambda: None), never)
        assert caught.value.code == "OUT_OF_MEMORY"

        def broken(_: Context) -> None:
            raise RuntimeError("shapes do not match")

        with pytest.raises(RuntimeError, match="shapes do not match"):
            climb(ladder.rungs(lambda: None), broken)


def test_asking_for_a_case_task_alone_costs_at_most_half_of_all_tasks(model: Model, tmp_path: Path) -> None:
    """``blind`` reads no masks, so the decoder does not run; counted, not timed."""
    case = read_subject(item_of(model, write_image(tmp_path / "a.nii.gz", (16, 16, 4, 3))), model).case
    context = model.context(torch.device("cpu"))
    counted = []
    for names in (["blind"], list(model.tasks)):
        with FlopCounterMode(display=False) as counter:
            predict_prepared(context, case, names)
        counted.append(counter.get_total_flops())
    assert 0 < counted[0] <= 0.5 * counted[1]


def test_threads_take_no_more_studies_than_they_are(model: Model, tmp_path: Path) -> None:
    worker = worker_of(model, tmp_path / "out", threads=2)
    items = [item_of(model, write_image(tmp_path / f"{name}.nii.gz")) for name in "abc"]
    with Threads(worker) as threads:
        assert threads.free == 2
        for item in items[:2]:
            threads.submit(item)
        assert threads.free == 0
        found = []
        while len(found) < 2:
            found += threads.poll(1.0)
        assert threads.free == 2
        assert threads.poll(0.0) == []
    assert {outcome.state for outcome in found} == {"ok"}


class TestOptions:
    """What may be asked for."""

    def test_an_unknown_format_or_an_impossible_time_is_told(self) -> None:
        with pytest.raises(ConfigError, match=r"--write: 'nifty' is not known; use nifti, seg.*did you mean"):
            Options(write=("nifty",))
        with pytest.raises(ConfigError, match="--timeout: -1 is no time"):
            Options(timeout=-1)
        with pytest.raises(ConfigError, match="threads: -1 is too few"):
            Options(threads=-1)
        assert split_names(" a, b,,") == ("a", "b")

    def test_where_and_how_fast_is_no_matter_of_what(self) -> None:
        fast = Options(device="cuda", timeout=5, threads=8)
        assert fast.identity() == Options().identity()
        assert Options(mirror=True).identity() != Options().identity()

    def test_a_key_shows_as_a_hash_and_has_to_be_one(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_text("0123456789abcdef0123\n")
        key = read_key(tmp_path / "key")
        shown = Options(key=key).identity()["pseudonymize"]
        assert shown
        assert shown not in key.decode()
        (tmp_path / "short").write_text("secret")
        with pytest.raises(ConfigError, match="holds 6 bytes, a key needs at least 16; make one with"):
            read_key(tmp_path / "short")
        with pytest.raises(ConfigError, match="the key cannot be read"):
            read_key(tmp_path / "none")


class TestMessages:
    """What is told of a study that gives no values."""

    ITEM = Item(
        "study:1", "1.2.3", "dicom", ("/data/SMITH JOHN/cine 1/IM1.dcm", "/data/SMITH JOHN/cine 1/IM2.dcm")
    )

    @pytest.mark.parametrize(
        ("message", "shown", "hidden"),
        [
            ("/data/SMITH JOHN/cine 1/IM2.dcm: ends", "IM2.dcm: ends", "1.2.3: ends"),
            ("find it (SMITH JOHN/cine 1/IM1.dcm)", "find it (IM1.dcm)", "find it (1.2.3)"),
            ("IM1.dcm and cine 1/IM2.dcm", "IM1.dcm and IM2.dcm", "1.2.3 and 1.2.3"),
            ("no name here", "no name here", "no name here"),
        ],
    )
    def test_names_of_folders_are_left_out(self, message: str, shown: str, hidden: str) -> None:
        assert without_values(self.ITEM, "GAP", message).row["message"] == shown
        assert without_values(self.ITEM, "GAP", message, hidden=True).row["message"] == hidden

    def test_a_code_says_whether_the_study_or_the_machine_is_to_blame(self) -> None:
        assert without_values(self.ITEM, "TRUNCATED", "x").state == "refused"
        assert without_values(self.ITEM, "TIMEOUT", "x").state == "failed"
        assert without_values(self.ITEM, "PACS_TIMEOUT", "x").state == "failed"
        assert without_values(self.ITEM, "PACS_NOT_FOUND", "x").state == "refused"
