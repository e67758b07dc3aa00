"""DICOM files, however stored, as 3D and 4D volumes with right geometry and time, or a reason why not."""

from medmtl.data.dicom.heartbeat import propose_ed_es
from medmtl.data.dicom.load import load
from medmtl.data.dicom.model import Instance, LoadedVolume, Plane, Scan, Series, TimeAxis, VolumePlan
from medmtl.data.dicom.scan import scan

__all__ = [
    "Instance",
    "LoadedVolume",
    "Plane",
    "Scan",
    "Series",
    "TimeAxis",
    "VolumePlan",
    "load",
    "propose_ed_es",
    "scan",
]
