"""Search of task weights, temperatures and other values, over any number of processes, on Optuna.

The names below need Optuna (``pip install 'medmtl[search]'``) when they are first used, not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medmtl.search._optuna import optuna

if TYPE_CHECKING:
    from medmtl.search.described import Method
    from medmtl.search.evolution import Evolution
    from medmtl.search.line import LineSearch
    from medmtl.search.method import METHODS, build_method
    from medmtl.search.rounds import Strategy, Tried
    from medmtl.search.run import Search, run_search
    from medmtl.search.sampler import EvolutionSampler, RoundSampler
    from medmtl.search.simplex import SimplexGrid, SimplexSample
    from medmtl.search.space import Choice, Number

__all__ = [
    "METHODS",
    "Choice",
    "Evolution",
    "EvolutionSampler",
    "LineSearch",
    "Method",
    "Number",
    "RoundSampler",
    "Search",
    "SimplexGrid",
    "SimplexSample",
    "Strategy",
    "Tried",
    "build_method",
    "run_search",
]

_HOME = {
    "METHODS": "method",
    "Choice": "space",
    "Evolution": "evolution",
    "EvolutionSampler": "sampler",
    "LineSearch": "line",
    "Method": "described",
    "Number": "space",
    "RoundSampler": "sampler",
    "Search": "run",
    "SimplexGrid": "simplex",
    "SimplexSample": "simplex",
    "Strategy": "rounds",
    "Tried": "rounds",
    "build_method": "method",
    "run_search": "run",
}
_ON_OPTUNA = ("run", "sampler")


def __getattr__(name: str) -> Any:
    """Import a public name from where it lives."""
    if name not in _HOME:
        raise AttributeError(f"module 'medmtl.search' has no attribute {name!r}")
    import importlib

    if _HOME[name] in _ON_OPTUNA:
        optuna()
    return getattr(importlib.import_module(f"medmtl.search.{_HOME[name]}"), name)
