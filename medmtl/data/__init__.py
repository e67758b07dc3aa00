"""Files on disk -> cases -> what the network sees."""

from medmtl.data.cases import Case
from medmtl.data.check import check_volumes
from medmtl.data.columns import Column, Cycle, Derived, Schema
from medmtl.data.dataset import Dataset, open_dataset
from medmtl.data.derive import cycle_frames, measure, phases
from medmtl.data.ingest import IngestResult, ingest
from medmtl.data.splits import assign_splits, folds

__all__ = [
    "Case",
    "Column",
    "Cycle",
    "Dataset",
    "Derived",
    "IngestResult",
    "Schema",
    "assign_splits",
    "check_volumes",
    "cycle_frames",
    "folds",
    "ingest",
    "measure",
    "open_dataset",
    "phases",
]
