"""medmtl: one network for every task on a medical volume.

The names below load torch and MONAI when they are first used, not when medmtl is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medmtl._version import __version__

if TYPE_CHECKING:
    from medmtl.data.dataset import open_dataset
    from medmtl.inference.model import load_model
    from medmtl.verbs import evaluate, train

__all__ = ["__version__", "evaluate", "load_model", "open_dataset", "train"]

_HOME = {
    "evaluate": "medmtl.verbs",
    "load_model": "medmtl.inference.model",
    "open_dataset": "medmtl.data.dataset",
    "train": "medmtl.verbs",
}


def __getattr__(name: str) -> Any:
    """Import a public name from where it lives."""
    if name not in _HOME:
        raise AttributeError(f"module 'medmtl' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME[name]), name)
