"""Folds of a cross-validation as one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from medmtl.types import ConfigError

if TYPE_CHECKING:
    from medmtl.inference.model import Model


def find_folds(folder: Path) -> list[Path]:
    """The RUN folders ``fold0``, ``fold1``, ... of a cross-validation, in order; empty where there are none.

    Raises:
        ConfigError: one of them is missing or not finished.
    """
    found = {int(path.name[4:]): path for path in folder.glob("fold*") if path.name[4:].isdecimal()}
    if not found:
        return []
    missing = [
        number
        for number in range(max(found) + 1)
        if number not in found or not (found[number] / "model" / "model.yaml").is_file()
    ]
    if missing:
        names = ", ".join(f"fold{number}" for number in missing)
        raise ConfigError(
            f"{folder}: {names} of the cross-validation has no finished model; go on with "
            "`medmtl train CONFIG --fold all --resume auto`, or name the folder of one fold"
        )
    return [found[number] for number in sorted(found)]


def as_ensemble(models: Sequence[Model]) -> Model:
    """One model that says the mean of several.

    Raises:
        ConfigError: they read other channels, see other grids, or have other tasks.
    """
    first, *others = models
    for other in others:
        for what in ("channels", "covariates", "preparation", "task_sections", "columns"):
            if getattr(first, what) != getattr(other, what):
                raise ConfigError(
                    f"{first.folder} and {other.folder} cannot be averaged: their {what.replace('_', ' ')} "
                    f"differ ({getattr(first, what)!r:.80} and {getattr(other, what)!r:.80})"
                )
    return replace(first, others=tuple(others))
