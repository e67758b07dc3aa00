"""Training on several ranks, each a process that torchrun starts: the course of one rank, stops, resumes."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml

from medmtl.engine.checkpoint import load_tree
from medmtl.inference import load_model
from tests.helpers.rank_program import carry_out
from tests.helpers.study import SECTIONS, make_job, sections, write_study

pytestmark = pytest.mark.slow

TASKS = sections("anatomy", "disease", "function", disease={"pooling": "mean"}, function={"pooling": "mean"})
"""Tasks whose losses are means over frames or cases, for which N ranks are one big batch exactly.

Without attention: a softmax does not feel the bias of its scores, whose gradient is nothing but rounding, of
which Adam makes whole steps.
"""
METHODS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ew": ({"type": "ew"}, {"batch_size": 3}),  # which two ranks share as 1 and 2
    "uw-so": ({"type": "uw-so", "temperature": 5.0}, {"epochs": 4, "patience": 1}),
    "balanced": ({"type": "balanced"}, {"accumulate": 2}),
    "gradnorm": ({"type": "gradnorm", "on": "shared_parameters"}, {"keep": "last"}),
}
PLAIN: dict[str, Any] = {"type": "tests.helpers.own_members:TwoLevels", "width": 6}
"""Without norms, for the same reason; and the rate is small, so that no step of that kind reaches 1e-5."""
BROKEN = {"type": "tests.helpers.own_members:BreaksAtThirdStep", "target": "anatomy"}
ROOT = Path(__file__).parents[2]


def order(dataset: Path, output: Path, **changes: Any) -> dict[str, Any]:
    training = {
        "epochs": 2,
        "steps_per_epoch": 2,
        "batch_size": 4,
        "learning_rate": 2e-4,
        "precision": "float32",
    }
    training |= changes.pop("training", {})
    return {
        "dataset": str(dataset), "output": str(output), "tasks": TASKS, "weighting": {"type": "balanced"},
        "backbone": PLAIN, "training": training, **changes,
    }  # fmt: skip


def torchrun(*arguments: str, limit_s: float = 300) -> subprocess.CompletedProcess[str]:
    """Two ranks on this machine."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        *arguments,
    ]
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )


class Both(NamedTuple):
    """Runs of one rank in ``alone``, of two in ``two``, and what each of the two said."""

    alone: Path
    two: Path
    ranks: list[dict[str, Any]]
    stdout: str


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some cases lack a diagnosis, so that some steps have one rank without any."""
    return write_study(
        tmp_path_factory.mktemp("ranks") / "dataset", blank={"c0": ("disease",), "c3": ("disease",)}
    )


@pytest.fixture(scope="module")
def both(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Both:
    """Every training once on one rank, here, and once on two."""
    alone, two = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("two")
    trainings: dict[str, dict[str, Any]] = {}
    threads = torch.get_num_threads()
    for name, (weighting, training) in METHODS.items():
        here = order(dataset, alone / name, weighting=weighting, training=training, copy_at=3)
        carry_out(here)
        trainings[name] = {**here, "output": str(two / name)}
    unet = order(dataset, alone / "unet", backbone=None, training={"epochs": 1, "steps_per_epoch": 1})
    carry_out(unet)
    trainings["unet"] = {**unet, "output": str(two / "unet")}
    trainings["one-then-two"] = order(
        dataset, alone / "balanced-parts", training=METHODS["balanced"][1], resume=True
    )
    tasks = {"disease": SECTIONS["disease"], "own": BROKEN}
    trainings["broken"] = order(dataset, two / "broken", tasks=tasks)
    trainings["too-small"] = order(dataset, two / "small", training={"batch_size": 1})
    config = make_job(dataset, two / "unused", TASKS, epochs=1, batch_size=2).resolved
    (two / "config.yaml").write_text(yaml.safe_dump({**config, "dataset": str(dataset)}))
    command = ["train", str(two / "config.yaml"), "-o", str(two / "command")]
    (two / "orders.json").write_text(json.dumps({"trainings": trainings, "command": command}))
    done = torchrun("-m", "tests.helpers.rank_program", str(two / "orders.json"), str(two))
    assert done.returncode == 0, done.stderr
    ranks = [json.loads((two / f"rank{rank}.json").read_text()) for rank in range(2)]
    balanced = METHODS["balanced"][1]
    carry_out(order(dataset, two / "balanced-parts", training=balanced, resume=True))
    torch.set_num_threads(threads)
    return Both(alone, two, ranks, done.stdout)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def assert_same_course(one: Path, other: Path) -> None:
    """Rows of every step and epoch, and everything that was kept, are the same to 1e-5."""
    for table in ("weights.csv", "metrics.csv"):
        left, right = rows_of(one / table), rows_of(other / table)
        assert len(left) == len(right)
        for row, again in zip(left, right, strict=True):
            assert row.keys() == again.keys()
            for key in row.keys() - {"seconds"}:
                assert (row[key] == "") == (again[key] == ""), (table, key)
                if row[key]:
                    assert float(row[key]) == pytest.approx(float(again[key]), rel=2e-5, abs=1e-5), (
                        table,
                        key,
                    )
    left, right = (load_tree(run / "checkpoints" / "last.safetensors") for run in (one, other))
    for part in ("network", "averaged", "weighting"):
        assert_same_tensors(left[part], right[part])
    assert left["best"]["epoch"] == right["best"]["epoch"]
    assert left["stopping"].keys() == right["stopping"].keys()
    trusted = [PLAIN["type"]]
    models = [load_model(run / "model", allow=trusted).network.state_dict() for run in (one, other)]
    assert_same_tensors(*models)


def assert_same_tensors(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.allclose(value.double(), other[name].double(), rtol=1e-5, atol=1e-5), name


@pytest.mark.parametrize("method", METHODS)
def test_two_ranks_take_the_course_of_one(both: Both, method: str) -> None:
    """Losses, weights, gradients' norms, metrics, decisions and weights; with dropout and augmentation."""
    assert_same_course(both.alone / method, both.two / method)


def test_a_network_with_norms_gets_the_gradient_of_the_whole_batch(both: Both) -> None:
    one, two = (rows_of(folder / "unet" / "weights.csv")[0] for folder in (both.alone, both.two))
    assert {k: float(v) for k, v in one.items()} == pytest.approx(
        {k: float(v) for k, v in two.items()}, rel=1e-4
    )


@pytest.mark.parametrize("method", METHODS)
def test_all_ranks_end_with_the_same_model_and_the_same_opinion_of_it(both: Both, method: str) -> None:
    one, other = (rank[method] for rank in both.ranks)
    assert one == other
    assert "error" not in one


def test_a_run_of_one_rank_is_continued_by_two_as_if_nothing_had_happened(both: Both) -> None:
    assert_same_course(both.alone / "balanced", both.alone / "balanced-parts")


def test_a_run_of_two_ranks_is_continued_by_one_as_if_nothing_had_happened(both: Both) -> None:
    assert_same_course(both.two / "balanced", both.two / "balanced-parts")


def test_a_run_folder_of_two_ranks_is_that_of_one(both: Both) -> None:
    def files(folder: Path) -> list[str]:
        return sorted(
            str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and "tfevents" not in p.name
        )

    assert files(both.two / "ew") == files(both.alone / "ew")
    assert len(list((both.two / "ew" / "tensorboard").iterdir())) == 1
    assert json.loads((both.two / "ew" / "environment.json").read_text())["ranks"] == 2
    log = (both.two / "ew" / "log.txt").read_text()
    assert log.count("epoch 2, step 4") == 1
    assert "the 3 cases of a step on 2 ranks: some wait for others" in log


def test_a_loss_that_is_not_a_number_stops_all_ranks_with_the_same_words(both: Both) -> None:
    one, other = (rank["broken"]["error"] for rank in both.ranks)
    assert one == other
    assert one.startswith("NotFiniteError: the loss of task 'own' was not finite at step 2")
    assert not (both.two / "broken" / "model").exists()


def test_more_ranks_than_cases_in_a_step_are_refused_and_nothing_is_written(both: Both) -> None:
    errors = {rank["too-small"]["error"] for rank in both.ranks}
    assert errors == {
        (
            "ConfigError: training.batch_size: the 1 cases of a step cannot be dealt to 2 ranks; use a "
            "batch_size of 2 or more (and as many training cases), or fewer ranks"
        )
    }
    assert not (both.two / "small").exists()


def test_the_command_tells_its_result_once(both: Both) -> None:
    assert [rank["command"]["code"] for rank in both.ranks] == [0, 0]
    assert both.stdout.count("model (weights of") == 1


def config_with(dataset: Path, folder: Path, member: str) -> Path:
    tasks = {"own": {"type": f"tests.helpers.failing_ranks:{member}", "target": "anatomy"}}
    job = make_job(dataset, folder / "unused", tasks, epochs=3, keep="last")
    (folder / "config.yaml").write_text(yaml.safe_dump({**job.resolved, "dataset": str(dataset)}))
    return folder / "config.yaml"


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        ("RaisesOnRankOne", "error: rank 1: ValueError: the coil fell off"),
        ("KilledOnRankOne", "error: rank 1 stopped without a reason: it was killed, or memory ran out"),
    ],
)
def test_a_rank_that_ends_stops_the_others_with_its_reason_and_leaves_whole_files(
    dataset: Path, tmp_path: Path, member: str, reason: str
) -> None:
    config = config_with(dataset, tmp_path, member)
    started = time.monotonic()
    done = torchrun("-m", "medmtl", "train", str(config), "-o", str(tmp_path / "run"))
    assert time.monotonic() - started < 120
    assert done.returncode != 0
    assert [line for line in done.stderr.splitlines() if line.startswith("error:")] == [reason]
    assert load_tree(tmp_path / "run" / "checkpoints" / "last.safetensors")["epoch"] == 1
    assert not (tmp_path / "run" / "model").exists()
    assert not list((tmp_path / "run").rglob("*.part"))


@pytest.mark.skipif(torch.cuda.device_count() >= 2, reason="there is a GPU for each rank")
def test_fewer_gpus_than_ranks_are_one_sentence(dataset: Path, tmp_path: Path) -> None:
    config = config_with(dataset, tmp_path, "RaisesOnRankOne")
    done = torchrun("-m", "medmtl", "train", str(config), "-o", str(tmp_path / "run"), "--device", "cuda")
    told = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(told) == 1
    assert "device: 2 ranks on this machine need as many GPUs, but PyTorch sees" in told[0]
    assert not (tmp_path / "run").exists()
