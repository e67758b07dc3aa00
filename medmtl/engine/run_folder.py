"""The RUN folder that a training writes to: whether it may, and the log that goes there."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from medmtl.engine.ranks import leads
from medmtl.files import is_free
from medmtl.types import ConfigError, OutputError

MAY_CHANGE = (
    "dataset",
    "device",
    "training.epochs",
    "training.start_from",
    "training.store",
    "training.store_folder",
    "training.threads",
)
"""Keys of the config that may be another when a run is continued."""


def check_run_folder(output: Path, *, resume: bool) -> None:
    """Refuse a folder that is not a run, or that is one and shall not be continued.

    Raises:
        OutputError: so.
    """
    if is_free(output):
        return
    if not (output / "config.yaml").is_file():
        raise OutputError(f"{output}: exists and is not a medmtl run; choose another folder")
    if not resume:
        raise OutputError(
            f"{output}: holds a run already; continue it with --resume auto, or choose another folder"
        )


def check_same_config(path: Path, resolved: Mapping[str, Any]) -> None:
    """Refuse to continue a run with another config than it was started with.

    Raises:
        ConfigError: a key differs, or the run's config cannot be read.
    """
    if not path.is_file():
        return
    try:
        before = flat_config(yaml.safe_load(path.read_text()))
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError) as error:
        raise ConfigError(f"{path}: cannot be read; start anew in another folder") from error
    now = flat_config(resolved)
    for key in sorted({*before, *now} - set(MAY_CHANGE)):
        if before.get(key) != now.get(key):
            raise ConfigError(
                f"{path}: the run was started with {key} = {before.get(key)!r}, the config now has "
                f"{now.get(key)!r}; continue with the same config, or choose another output folder"
            )


def flat_config(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested mappings as ``{"training.epochs": 5}``."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{above}{key}"
        flat.update(flat_config(value, f"{name}.") if isinstance(value, Mapping) else {name: value})
    return flat


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Append medmtl's log to a file while the block runs."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("medmtl")
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        handler.close()


@contextmanager
def silent_but_first() -> Iterator[None]:
    """Only rank 0 logs while the block runs; the others have nothing else to say."""
    logger = logging.getLogger("medmtl")
    before = logger.level
    if not leads():
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
