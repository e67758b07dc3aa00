"""The folder of a search: what it searches, and whether it is the same search that goes on in it."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from medmtl.data.dataset import Dataset
from medmtl.engine import Job
from medmtl.engine.train import flat_config
from medmtl.files import is_free
from medmtl.search.described import Method
from medmtl.search.objective import Objective
from medmtl.search.storage import without_password
from medmtl.types import ConfigError, OutputError

FILE = "search.yaml"
FORMAT = 1
MAY_CHANGE = ("config.dataset", "config.device", "config.training.threads", "study")
_SHOWN = 5


def describe(
    base: Job, method: Method, objective: Objective, storage: str | None, *, prune: bool
) -> dict[str, Any]:
    """All that makes a search what it is, as plain data."""
    return {
        "medmtl_search": FORMAT,
        "study": f"medmtl-{uuid.uuid4().hex[:12]}",
        "storage": without_password(storage),
        "method": method.name,
        "settings": _plain(method.settings),
        "metrics": dict(objective.metrics),
        "prune": prune,
        "dataset": {"name": base.dataset.name, "sha256": _digest(base.dataset)},
        "config": _plain(base.resolved),
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
    path = folder / FILE
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise OutputError(f"{path}: cannot be read; start anew in another folder") from error
    if not isinstance(found, dict) or found.get("medmtl_search") != FORMAT or "study" not in found:
        raise OutputError(f"{path}: is not a search of format {FORMAT}; start anew in another folder")
    return found


def _check_same(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    before, now = flat_config(found), flat_config(wanted)
    same_method = found["method"] == wanted["method"]
    keys = sorted({*before, *now} - set(MAY_CHANGE)) if same_method else ["method"]
    lines = [
        f"{key.removeprefix('config.').removeprefix('settings.')} was {before.get(key)!r} and is now "
        f"{now.get(key)!r}"
        for key in keys
        if before.get(key) != now.get(key)
    ]
    if lines:
        more = f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
        raise ConfigError(
            f"{folder}: holds another search: {'; '.join(lines[:_SHOWN])}{more}. Continue with the same "
            "settings, or choose another output folder"
        )


def _plain(value: Any) -> Any:
    """What YAML gives back: mappings as dicts, tuples as lists."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value


def _digest(dataset: Dataset) -> str:
    """Of what the cases and their columns are, and who validates."""
    digest = hashlib.sha256()
    for name in ("dataset.yaml", "cases.csv"):
        digest.update((dataset.root / name).read_bytes())
    for case in dataset.cases:
        digest.update(f"{case.case_id}={case.split};".encode())
    return digest.hexdigest()[:16]
