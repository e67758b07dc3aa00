"""The PREDICTIONS folder that a run holds while it works."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from medmtl.files import is_free, write_text
from medmtl.inference.adopt import sweep
from medmtl.inference.journal import FILE as JOURNAL
from medmtl.inference.journal import Journal
from medmtl.inference.lock import FILE as LOCK
from medmtl.inference.lock import only_one
from medmtl.inference.model import Model
from medmtl.inference.options import Options
from medmtl.inference.worker import describe_outputs
from medmtl.types import OutputError


@dataclass
class Folder:
    """A PREDICTIONS folder that this process holds, with its journal."""

    path: Path
    journal: Journal
    outputs: dict[str, dict[str, Any]]


@contextmanager
def opened_folder(model: Model, output: Path, options: Options) -> Iterator[Folder]:
    """Hold an output folder: new, empty, or of an earlier call with the same model and options.

    Raises:
        OutputError: it holds something else, belongs to another run, or another process has it.
    """
    names = model.task_names(options.tasks or None)
    if not is_free(output) and not (output / LOCK).is_file():
        what = "predictions without a journal" if (output / "outputs.yaml").is_file() else "something else"
        raise OutputError(f"{output}: exists and holds {what}; choose another folder")
    output.mkdir(parents=True, exist_ok=True)
    outputs = describe_outputs(model, names)
    with ExitStack() as stack:
        stack.enter_context(only_one(output))
        identity = {**options.identity(), "tasks": list(names)}
        journal = stack.enter_context(Journal(output / JOURNAL, model.digest(), identity))
        sweep(output)
        write_outputs(output, outputs)
        yield Folder(output, journal, outputs)


def write_outputs(output: Path, outputs: dict[str, dict[str, Any]]) -> None:
    """``outputs.yaml``: how to read the folder."""
    write_text(output / "outputs.yaml", yaml.safe_dump({"tasks": outputs}, sort_keys=False))
