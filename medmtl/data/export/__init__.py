"""Datasets in the layouts of other programs, so that they can be run on the same cases."""

from medmtl.data.export.base import LAYOUTS, ExportResult, Layout
from medmtl.data.export.bids import ToBids
from medmtl.data.export.msd import ToMSD
from medmtl.data.export.nnunet import ToNNUNet
from medmtl.data.export.run import export

__all__ = ["LAYOUTS", "ExportResult", "Layout", "ToBids", "ToMSD", "ToNNUNet", "export"]
