"""A trained model on new cases: load it, run it, write what it says.

The names below load torch and MONAI when they are first used: the status of a run is told without them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medmtl.inference.model import Model, load_model
    from medmtl.inference.prediction import Prediction
    from medmtl.inference.predictor import predict_prepared
    from medmtl.inference.results import PredictionRun
    from medmtl.inference.run import predict_cases
    from medmtl.inference.studies import predict_studies

__all__ = [
    "Model",
    "Prediction",
    "PredictionRun",
    "load_model",
    "predict_cases",
    "predict_prepared",
    "predict_studies",
]

_HOME = {
    "Model": "model",
    "Prediction": "prediction",
    "PredictionRun": "results",
    "load_model": "model",
    "predict_cases": "run",
    "predict_prepared": "predictor",
    "predict_studies": "studies",
}


def __getattr__(name: str) -> Any:
    """Import a public name from where it lives."""
    if name not in _HOME:
        raise AttributeError(f"module 'medmtl.inference' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"medmtl.inference.{_HOME[name]}"), name)
