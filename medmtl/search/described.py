"""A search that is fully described: what it goes through, and what a configuration changes in the config."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from medmtl.engine import Job
from medmtl.search.rounds import Params, Strategy
from medmtl.weighting import CommonOptions

MakeJob = Callable[[Mapping[str, Any], Path], Job]
"""The training of a config with some keys set to other values, into a RUN folder."""
WEIGHT = "weight."
"""Before a task's name: the variable that is its weight."""


@dataclass(frozen=True)
class Method:
    """A search that is fully described.

    Attributes:
        name: ``line``, ``grid`` or ``evolution``.
        strategy: what to try next.
        settings: all that makes it another search when it changes, as plain data.
        says: what will be done, before anything is.
        trials: configurations by default.
        changes: keys and values that a configuration sets in the config.
        transfer_epochs: epochs of a trial that continues from an earlier model; 0 where none does.
    """

    name: str
    strategy: Strategy
    settings: Mapping[str, Any]
    says: str
    trials: int
    changes: Callable[[Params], dict[str, Any]] = field(repr=False)
    transfer_epochs: int = 0


def common_options(section: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a weighting that every other one takes too."""
    names = {known.name for known in fields(CommonOptions)}
    return {option: value for option, value in section.items() if option in names}
