"""The folder of a search: what it searches, and whether it is the same search that goes on in it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from medmtl.engine import Job
from medmtl.evaluation.comparison.conditions import (
    dataset_facts,
    differences,
    plain,
    read_description,
    refuse_other,
)
from medmtl.files import is_free
from medmtl.search.described import Method
from medmtl.search.objective import Objective
from medmtl.search.storage import without_password
from medmtl.types import OutputError

FILE = "search.yaml"
FORMAT = 1
MAY_CHANGE = ("config.dataset", "config.device", "config.training.threads", "study")


def describe(
    base: Job, method: Method, objective: Objective, storage: str | None, *, prune: bool
) -> dict[str, Any]:
    """All that makes a search what it is, as plain data."""
    return {
        "medmtl_search": FORMAT,
        "study": f"medmtl-{uuid.uuid4().hex[:12]}",
        "storage": without_password(storage),
        "method": method.name,
        "settings": plain(method.settings),
        "metrics": dict(objective.metrics),
        "prune": prune,
        "dataset": dataset_facts(base.dataset),
        "config": plain(base.resolved),
    }


def check_folder(folder: Path, description: Mapping[str, Any]) -> None:
    """Refuse a folder that holds something else, or another search; nothing is written.

    Raises:
        OutputError: something else.
        ConfigError: another search; the message says what differs.
    """
    if is_free(folder):
        return
    if not (folder / FILE).is_file():
        raise OutputError(f"{folder}: exists and is not a search; choose another folder")
    _check_same(folder, _read(folder), description)


def join_folder(folder: Path, description: Mapping[str, Any]) -> str:
    """Begin a search in a folder, or join the one in it.

    Returns:
        The name of the study, which all processes of a search share.

    Raises:
        OutputError: the folder holds something else.
        ConfigError: it holds another search; the message says what differs.
    """
    check_folder(folder, description)
    folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(dict(description), sort_keys=False, allow_unicode=True)
    if write_once(folder / FILE, text):
        return str(description["study"])
    found = _read(folder)
    _check_same(folder, found, description)
    return str(found["study"])


def write_once(path: Path, text: str) -> bool:
    """Write a file that processes which begin together have to agree on: the first one's counts.

    Returns:
        Whether this process was the first.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_text(text, encoding="utf-8")
    try:
        os.link(temporary, path)  # fails where the file is there, unlike a move
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _read(folder: Path) -> dict[str, Any]:
    return read_description(folder / FILE, "search", FORMAT, needs=["study"])


def _check_same(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    if found["method"] != wanted["method"]:  # whose settings cannot be compared
        found, wanted = {"method": found["method"]}, {"method": wanted["method"]}
    lines = differences(found, wanted, MAY_CHANGE)
    refuse_other(folder, "search", lines, "Continue with the same settings")
