"""A process that prepares cases: ``python -m medmtl.data.store.work``, orders in, answers out, a line each.

Not a pool of forks, in which torch's threads may hang, and not one that imports the caller's main script
again. When the process that gives the orders dies, the next line never comes, and this one ends.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch

from medmtl.data.cases import Case
from medmtl.data.columns import Column
from medmtl.data.load import prepare_volumes
from medmtl.data.prepare import Preparation
from medmtl.data.store.entry import write_entry, write_refusal
from medmtl.data.store.inputs import inputs_of, signature
from medmtl.data.store.recipe import Recipe
from medmtl.types import CaseError, MedmtlError


def prepare_into(store: Path, case: Case, recipe: Recipe) -> None:
    """Prepare one case and write it, or the reason why it cannot be used.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    inputs: dict[str, Any] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # every core has a process, and one thread always sums alike
    try:
        inputs = signature(inputs_of(case, tuple(recipe.columns)))
        prepared = prepare_volumes(
            case, recipe.columns, recipe.preparation, spacing_from_pixdim=recipe.spacing_from_pixdim
        )
        write_entry(store, prepared, inputs)
    except CaseError as error:
        write_refusal(store, case.case_id, error, inputs)
    finally:
        torch.set_num_threads(threads)


def order_of(store: Path, recipe: Recipe) -> dict[str, Any]:
    """What a process is told first."""
    preparation = recipe.preparation.as_plain()
    columns = {
        name: {"name": name, "kind": column.kind, "labels": dict(column.labels), "unit": column.unit}
        for name, column in recipe.columns.items()
    }
    return {
        "store": str(store),
        "preparation": preparation,
        "columns": columns,
        "spacing_from_pixdim": recipe.spacing_from_pixdim,
    }


def case_order(case: Case) -> dict[str, Any]:
    """What a process is told of a case."""
    files = {name: str(path) for name, path in case.files.items()}
    return {"case_id": case.case_id, "images": [str(path) for path in case.images], "files": files}


def serve(orders: IO[str], answers: IO[str]) -> None:
    """Work off orders until there are no more."""
    first = json.loads(orders.readline() or "null")
    if first is None:
        return
    recipe = _recipe(first)
    answers.write("ready\n")
    answers.flush()
    for line in orders:
        order = json.loads(line)
        images = tuple(Path(path) for path in order["images"])
        files = {name: Path(path) for name, path in order["files"].items()}
        answer = ""
        try:
            prepare_into(Path(first["store"]), Case(order["case_id"], "", "", images, files=files), recipe)
        except OSError as error:
            answer = f"{error.errno} {error.strerror}"
        except MedmtlError as error:
            answer = f"0 {error}"
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _recipe(order: Mapping[str, Any]) -> Recipe:
    columns = {name: Column(**section) for name, section in order["columns"].items()}
    return Recipe(Preparation.from_plain(order["preparation"]), columns, order["spacing_from_pixdim"])


if __name__ == "__main__":
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as told:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints is no answer
        serve(sys.stdin, told)
    os._exit(0)  # all is on the disk; taking the libraries down would take a second
