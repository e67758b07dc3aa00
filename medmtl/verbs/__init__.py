"""One function per verb of the command line; notebooks and pipelines call the same ones."""

from medmtl.data.export import export
from medmtl.data.ingest import ingest
from medmtl.inference import load_model
from medmtl.report import build_report
from medmtl.verbs.prediction import evaluate, predict
from medmtl.verbs.shared import Progress
from medmtl.verbs.training import import_nnunet, plan, train, train_folds
from medmtl.verbs.walkthrough import Demo, demo, demo_config
from medmtl.verbs.weights import compare, search

__all__ = [
    "Demo",
    "Progress",
    "build_report",
    "compare",
    "demo",
    "demo_config",
    "evaluate",
    "export",
    "import_nnunet",
    "ingest",
    "load_model",
    "plan",
    "predict",
    "search",
    "train",
    "train_folds",
]
