"""The adapter to TorchJD's weightings; nothing else in medmtl imports torchjd."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

from torch import Tensor

from medmtl.types import ConfigError
from medmtl.weighting._gradient_weighting import GramianWeighting, On


def torchjd_aggregation(method: str) -> ModuleType:
    """The module ``torchjd.aggregation``.

    Raises:
        ConfigError: TorchJD is not installed; says how to get it.
    """
    try:
        return import_module("torchjd.aggregation")
    except ImportError as error:
        raise ConfigError(
            f"weighting {method!r} needs TorchJD, which is not installed here ({error}); "
            "install the extra: pip install 'medmtl[gradients]'"
        ) from error


class TorchJDWeighting(GramianWeighting):
    """A weighting of TorchJD's, on the Gramian of the tasks present.

    Its traps are kept out: a Gramian of an absent task has no row (a row of zeros makes MGDA choose the dead
    task), no NaN reaches a solver, and scales that its thresholds do not expect are divided out.

    Args:
        tasks: names of the K tasks.
        on: where gradients are compared.

    Attributes:
        name: short name, for messages.

    Raises:
        ConfigError: TorchJD is not installed, or tasks or ``on`` cannot be used.
    """

    name: str

    def __init__(self, tasks: Sequence[str], *, on: On = "last_layers", sketch: int | None = None) -> None:
        torchjd_aggregation(self.name)
        super().__init__(tasks, on=on, sketch=sketch)

    @abstractmethod
    def method(self, aggregation: ModuleType) -> Any:
        """The member of ``torchjd.aggregation`` that maps a Gramian to weights."""

    def solve(self, gramian: Tensor) -> Tensor:
        """TorchJD's weights."""
        weights: Tensor = self.method(torchjd_aggregation(self.name))(gramian)
        return weights
