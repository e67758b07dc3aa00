"""Studies on a dask cluster: the same results, and a worker that dies loses nothing."""

from __future__ import annotations

import csv
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from medmtl.data.dataset import open_dataset
from medmtl.inference import load_model, predict_studies
from medmtl.inference.options import Options
from medmtl.types import ConfigError
from tests.helpers.study import make_job, make_ready, sections, write_study
from tests.unit.inference.test_run import write_image

distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
OPTIONS = Options(device="cpu", write=("nifti", "csv"), preview=False)


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    """Two workers in processes of their own, and nothing that asks for a browser or a network."""
    options = {"dashboard_address": None, "host": "127.0.0.1"}
    with distributed.LocalCluster(n_workers=2, threads_per_worker=2, processes=True, **options) as found:
        yield found


def rows_of(output: Path) -> list[dict[str, str]]:
    with (output / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


@pytest.mark.slow
def test_a_worker_that_dies_loses_nothing_and_the_results_are_those_of_one_machine(
    cluster: object, tmp_path: Path
) -> None:
    dataset = open_dataset(write_study(tmp_path / "dataset"))
    chosen = {name: section for name, section in sections().items() if name in ("anatomy", "disease")}
    make_ready(make_job(dataset, tmp_path / "run", chosen)).model.save(tmp_path / "model")
    for index in range(10):
        write_image(tmp_path / "in" / f"{index}.nii.gz", (48, 48, 4, 4), seed=index)
    (tmp_path / "in" / "5.nii.gz").write_text("damaged")
    model = load_model(tmp_path / "model")
    predict_studies(model, [tmp_path / "in"], tmp_path / "alone", OPTIONS, workers=0)
    killed = threading.Thread(target=_kill_one, args=(cluster, tmp_path / "out"))
    killed.start()
    address = cluster.scheduler_address  # type: ignore
    found = predict_studies(tmp_path / "model", [tmp_path / "in"], tmp_path / "out", OPTIONS, dask=address)
    killed.join()
    assert (tmp_path / "out" / "killed").exists()
    assert found.done == 10
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "alone")
    assert [f.code for f in found.findings] == ["UNDECODABLE"]


def _kill_one(cluster: object, output: Path) -> None:
    """Kill a worker once two studies are done."""
    while len(list(output.glob("*/prediction.json"))) < 2:
        time.sleep(0.02)
    worker = next(iter(cluster.workers.values()))  # type: ignore
    os.kill(worker.process.pid, signal.SIGKILL)
    (output / "killed").touch()


def test_an_address_without_a_scheduler_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medmtl.inference.workers.cluster.CONNECT_SECONDS", 1)
    dataset = open_dataset(write_study(tmp_path / "dataset"))
    make_ready(make_job(dataset, tmp_path / "run")).model.save(tmp_path / "model")
    write_image(tmp_path / "in" / "a.nii.gz")
    with pytest.raises(ConfigError, match=r"--dask tcp://127.0.0.1:9: no scheduler answers there"):
        predict_studies(
            tmp_path / "model", [tmp_path / "in"], tmp_path / "out", OPTIONS, dask="tcp://127.0.0.1:9"
        )
