"""What torchrun starts in the tests of ranks: many trainings in one process group, for a start is slow.

``torchrun --nproc-per-node N -m tests.helpers.rank_program ORDERS.json OUT``: each order is a training; what
became of it on rank r lies in ``OUT/rank{r}.json``.
"""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from medmtl import cli
from medmtl.engine import process_group, train
from medmtl.engine.ranks import rank
from medmtl.types import MedmtlError
from tests.helpers.study import make_job


def carry_out(order: Mapping[str, Any]) -> dict[str, Any]:
    """One training; where ``copy_at`` is set, its folder is copied in the middle, as a kill leaves it."""
    output = Path(order["output"])
    job = make_job(
        Path(order["dataset"]),
        output,
        order["tasks"],
        weighting=order["weighting"],
        backbone=order["backbone"],
        **order["training"],
    )
    try:
        run = train(job, resume=bool(order.get("resume")), progress=copy_at(order.get("copy_at"), output))
    except MedmtlError as error:
        return {"error": f"{type(error).__name__}: {error}"}
    sums = [value.double().sum().item() for value in run.model.network.state_dict().values()]
    return {"best_epoch": run.best_epoch, "best_score": run.best_score, "sums": sums}


def copy_at(step: int | None, output: Path) -> Callable[[str, int, int], None]:
    """A progress callback that copies the RUN folder after a step to ``<output>-parts``."""

    def progress(what: str, done: int, total: int) -> None:
        if what == "train" and done == step:
            shutil.copytree(output, output.with_name(f"{output.name}-parts"))

    return progress


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
    orders = json.loads(Path(sys.argv[1]).read_text())
    with process_group("cpu"):
        found = {name: carry_out(order) for name, order in orders["trainings"].items()}
        found["command"] = {"code": cli.run(orders["command"])}
        (Path(sys.argv[2]) / f"rank{rank()}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
