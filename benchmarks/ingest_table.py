"""Writes what medmtl makes of every series of the real data that it is developed on, a row per volume.

python benchmarks/ingest_table.py [REALDATA]     # writes benchmarks/results/ingest-series.csv

Every folder that holds DICOM files is read by itself. Text only: no pixels, no UIDs, nothing about patients.
tests/realdata/test_dicom_table.py holds the reader against this table.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from medmtl.data.dicom import scan
from medmtl.data.dicom.load import findings_of_values
from medmtl.data.dicom.model import Series, VolumePlan

TABLE = Path(__file__).parent / "results" / "ingest-series.csv"
COLUMNS = (
    "folder", "series", "modality", "files", "usable", "volume", "shape", "spacing_mm", "time", "time_from",
    "findings",
)  # fmt: skip


def dicom_folders(root: Path) -> list[Path]:
    """Folders that hold a DICOM file, by what stands at byte 128."""
    folders = {path.parent for path in root.rglob("*") if path.is_file() and _is_dicom(path)}
    return sorted(folders)


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def rows_of(folder: Path, root: Path) -> list[dict[str, str]]:
    """A row per volume, and one per series that gives none."""
    rows = []
    for number, series in enumerate(scan([folder]).series, start=1):
        for plan in series.volumes or (None,):
            rows.append(_row(folder.relative_to(root).as_posix(), number, series, plan))
    return rows


def _row(folder: str, number: int, series: Series, plan: VolumePlan | None) -> dict[str, str]:
    findings = [*series.findings]
    for one in series.volumes:
        findings += [*one.findings, *findings_of_values(one)]
    codes = sorted({f"{finding.code}:{finding.severity}" for finding in findings})
    row = {
        "folder": folder,
        "series": str(number),
        "modality": series.modality,
        "files": str(series.instances),
        "usable": str(series.usable),
        "findings": " ".join(codes),
    }
    if plan is not None:
        row |= {
            "volume": plan.name,
            "shape": " ".join(map(str, plan.shape)),
            "spacing_mm": " ".join(f"{size:.4f}" for size in plan.spacing_mm),
        }
        if plan.time is not None:
            step = plan.time.step_ms
            row["time"] = f"{plan.frames} frames" + ("" if step is None else f", {step:.3f} ms")
            row["time_from"] = f"{plan.time.how}: {plan.time.sure}"
    return {column: row.get(column, "") for column in COLUMNS}


def main() -> None:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data")
    with TABLE.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for folder in dicom_folders(root):
            writer.writerows(rows_of(folder, root))
    print(TABLE)


if __name__ == "__main__":
    main()
