"""A process that takes part in a search of a closed-form objective; tests start several and kill some."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medmtl.search import Choice, Evolution, LineSearch, Number, Strategy

TARGET = {"weight.a": 1.0, "weight.b": 10.0, "weight.c": 50.0}
BEST_LOSS = "focal"


def strategies(seed: int = 0) -> dict[str, Strategy]:
    space = {name: Number(0.1, 1000.0, log=True) for name in TARGET}
    return {
        "evolution": Evolution(
            {**space, "every.b": Number(1, 10, whole=True), "loss": Choice(("ce", "focal"))},
            weights=list(TARGET),
            seed=seed,
        ),
        "whole": Evolution(
            {"x": Number(0, 3, whole=True), "y": Choice(("a", "b", "c"))}, seed=seed
        ),  # 12 configurations in all, so that chance alone would soon repeat one
        "line": LineSearch("t", Number(1.0, 100.0, log=True)),
    }


def objective(params: Mapping[str, Any]) -> float:
    """1 where weights stand as 1 : 10 : 50, b takes part in every third step and the loss is focal."""
    if "t" in params:
        return float(np.exp(-(np.log10(params["t"] / 20.0) ** 2)))
    if "x" in params:
        return float(params["x"] + len(params["y"]))
    logs = np.log10([params[name] for name in TARGET])
    best = np.log10(list(TARGET.values()))
    apart = (logs - logs.mean()) - (best - best.mean())
    late = (params["every.b"] - 3) ** 2 / 50
    return float(np.exp(-(apart**2).sum() / 2 - late)) * (1.0 if params["loss"] == BEST_LOSS else 0.8)


def main(folder: str, kind: str, budget: str, seconds: str, storage: str = "") -> None:
    from medmtl.search._optuna import quiet
    from medmtl.search.loop import Assignment, Loop
    from medmtl.search.sampler import RoundSampler
    from medmtl.search.storage import JOURNAL, open_storage, open_study

    def work(assignment: Assignment) -> tuple[float, dict[str, Any]]:
        line = {"key": assignment.key, "params": dict(assignment.params), "pid": os.getpid()}
        with (Path(folder) / "begun.jsonl").open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        time.sleep(float(seconds))
        return objective(assignment.params), {}

    with quiet():
        sampler = RoundSampler(strategies()[kind], poll_seconds=0.02)
        study = open_study("test", sampler, open_storage(storage or str(Path(folder) / JOURNAL)))
        Loop(study, budget=int(budget), work=work, poll_seconds=0.02).run()


def start(
    folder: Path, kind: str, budget: int, seconds: float = 0.0, storage: str = ""
) -> subprocess.Popen[bytes]:
    """One more process of a search."""
    return subprocess.Popen(
        [
            sys.executable, "-W", "error", "-m", "tests.helpers.search_worker", str(folder), kind,
            str(budget), str(seconds), storage,
        ],
        cwd=Path(__file__).parents[2],
    )  # fmt: skip


def begun(folder: Path) -> list[dict[str, Any]]:
    """What processes began, in order; a line that was cut off by a kill is none."""
    path = folder / "begun.jsonl"
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def attempts(folder: Path, storage: str = "") -> list[Any]:
    """The newest trial of every configuration, as the storage has it."""
    from medmtl.search.ledger import Ledger
    from medmtl.search.sampler import RoundSampler
    from medmtl.search.storage import JOURNAL, open_storage, open_study

    sampler = RoundSampler(strategies()["line"])
    return Ledger.of(open_study("test", sampler, open_storage(storage or str(folder / JOURNAL)))).attempts()


if __name__ == "__main__":
    main(*sys.argv[1:])
