"""Studies of a PACS, by DICOMweb: searched with QIDO, fetched with WADO, objects sent back with STOW."""

from medmtl.data.dicom.web.address import Address, parse_address
from medmtl.data.dicom.web.fetch import fetch_study, fetched_study
from medmtl.data.dicom.web.search import WebSeries, find_series, find_studies, fingerprint_of
from medmtl.data.dicom.web.server import Patience, Server
from medmtl.data.dicom.web.store import store_files

__all__ = [
    "Address",
    "Patience",
    "Server",
    "WebSeries",
    "fetch_study",
    "fetched_study",
    "find_series",
    "find_studies",
    "fingerprint_of",
    "parse_address",
    "store_files",
]
