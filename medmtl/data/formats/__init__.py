"""Layouts of files that ingest understands; one file per format, registered under its short name."""

from medmtl.data.formats.acdc import ACDC
from medmtl.data.formats.base import FORMATS, DatasetFormat, Found, LoadedCase, RawCase
from medmtl.data.formats.bids import Bids
from medmtl.data.formats.dicom import Dicom
from medmtl.data.formats.emidec import Emidec
from medmtl.data.formats.find import Recognized, find_format, recognize
from medmtl.data.formats.mnms import MnMs
from medmtl.data.formats.msd import MSD
from medmtl.data.formats.nnunet import NNUNet
from medmtl.data.formats.phantom import Phantom
from medmtl.data.formats.sunnybrook import Sunnybrook
from medmtl.data.formats.table import PlainTable

__all__ = [
    "ACDC",
    "FORMATS",
    "MSD",
    "Bids",
    "DatasetFormat",
    "Dicom",
    "Emidec",
    "Found",
    "LoadedCase",
    "MnMs",
    "NNUNet",
    "Phantom",
    "PlainTable",
    "RawCase",
    "Recognized",
    "Sunnybrook",
    "find_format",
    "recognize",
]
