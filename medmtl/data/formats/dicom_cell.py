"""A cell of a table that names DICOM: a folder, a file or an archive with one volume in it."""

from __future__ import annotations

from pathlib import Path

from medmtl.data.dicom import load, scan
from medmtl.data.formats.scanned import as_volume, left_out
from medmtl.data.formats.volumes import without_folder
from medmtl.data.nifti import Volume
from medmtl.types import CaseError, Finding

_ENDINGS = (".dcm", ".dicom", ".ima", ".zip", ".tar", ".tar.gz", ".tgz")


def names_dicom(path: Path) -> bool:
    """Whether a path is a folder, or a file that DICOM may be in."""
    return path.is_dir() or path.name.lower().endswith(_ENDINGS)


def read_dicom(path: Path) -> tuple[Volume, tuple[Finding, ...]]:
    """The only volume in a place, and what was found on the way.

    Raises:
        CaseError: ``NO_USABLE_SERIES``: there is none, or there are several; names them.
    """
    if not path.exists():
        raise CaseError("NO_USABLE_SERIES", f"{path.name}: there is no such file or folder")
    found = scan([path])
    plans = [plan for series in found.series for plan in series.volumes]
    if len(plans) > 1:
        names = ", ".join(f"{plan.name} ({' x '.join(map(str, plan.shape))})" for plan in plans[:5])
        raise CaseError(
            "NO_USABLE_SERIES",
            f"{path.name}: holds {len(plans)} volumes ({names}); name the folder or file of one",
        )
    if not plans:
        errors = [*found.findings, *(finding for series in found.series for finding in series.findings)]
        why = next(
            (f"{finding.code}: {finding.message}" for finding in errors if finding.severity == "error"), ""
        )
        said = f"holds no volume ({why})" if why else "holds no DICOM volume"
        raise CaseError("NO_USABLE_SERIES", without_folder(f"{path.name}: {said}", path.parent))
    loaded = load(plans[0])
    return as_volume(loaded), (*left_out(found, plans[0]), *loaded.findings)
