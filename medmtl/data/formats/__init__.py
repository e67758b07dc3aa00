"""Layouts of files that ingest understands; one file per format, registered under its short name."""

from medmtl.data.formats.acdc import ACDC
from medmtl.data.formats.base import FORMATS, DatasetFormat, LoadedCase, RawCase
from medmtl.data.formats.find import find_format
from medmtl.data.formats.phantom import Phantom

__all__ = ["ACDC", "FORMATS", "DatasetFormat", "LoadedCase", "Phantom", "RawCase", "find_format"]
