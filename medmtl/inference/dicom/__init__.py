"""Results as DICOM objects: segmentations (SEG) and measurement reports (SR), each checked once written."""

from medmtl.inference.dicom.check import check_seg
from medmtl.inference.dicom.codes import Algorithm, Evaluation, Hides, Measurement, Planned, Segment
from medmtl.inference.dicom.origin import require_highdicom
from medmtl.inference.dicom.seg import write_seg
from medmtl.inference.dicom.sr import write_sr
from medmtl.inference.dicom.terms import Codes, plain_codes

__all__ = [
    "Algorithm",
    "Codes",
    "Evaluation",
    "Hides",
    "Measurement",
    "Planned",
    "Segment",
    "check_seg",
    "plain_codes",
    "require_highdicom",
    "write_seg",
    "write_sr",
]
