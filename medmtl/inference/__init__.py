"""A trained model on new cases: load it, run it, write what it says."""

from medmtl.inference.model import Model, load_model
from medmtl.inference.prediction import Prediction
from medmtl.inference.predictor import predict_prepared
from medmtl.inference.run import PredictionRun, predict_cases
from medmtl.inference.sources import Sources, find_cases

__all__ = [
    "Model",
    "Prediction",
    "PredictionRun",
    "Sources",
    "find_cases",
    "load_model",
    "predict_cases",
    "predict_prepared",
]
