"""Times reading DICOM into volumes: medmtl beside dcm2niix, SimpleITK, MONAI, dicom2nifti and the floors.

python benchmarks/ingest.py [REALDATA]     # writes benchmarks/results/ingest.json

All are timed in one run: each in a process of its own that has done its imports, round after round in turn,
so that whatever else the machine does falls on all of them. dcm2niix is a program, and its time is that of
the process, which writes an uncompressed NIfTI file too. What is not installed is named as missing.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import ingest_series
from ingest_contenders import CONTENDERS
from record import write_result

FULL = ("medmtl", "medmtl, one thread", "dcm2niix", "SimpleITK", "MONAI PydicomReader", "MONAI ITKReader",
        "dicom2nifti")  # fmt: skip
FLOORS = (
    "all bytes", "headers by pydicom", "headers by medmtl", "medmtl inspect", "medmtl inspect, second look",
)  # fmt: skip
SLOW_SECONDS = 5.0
WANTED = {
    "cine": {"dcm2niix": "at most 0.5", "SimpleITK": "at most 0.1", "MONAI PydicomReader": "at most 0.1"},
    "fmri": {"dcm2niix": "at most 1.0", "SimpleITK": "at most 0.1", "MONAI PydicomReader": "at most 0.1"},
    "second look / first look": "at most 0.1",
}


class Contender:
    """A process that reads a folder once whenever it is told to."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        command = [sys.executable, str(Path(__file__).with_name("ingest_contenders.py")), name, str(folder)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.seconds: list[float] = []
        self.last: dict[str, Any] = self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"failed": "the process ended"}

    @property
    def usable(self) -> bool:
        return "failed" not in self.last and "missing" not in self.last

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        self.last = self._answer()
        if self.usable:
            self.seconds.append(self.last["seconds"])

    def close(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)
        if not self.seconds:
            return self.last
        told = {key: value for key, value in self.last.items() if key != "seconds"}
        return {"seconds": round(median(self.seconds), 4), "best": round(min(self.seconds), 4),
                "rounds": len(self.seconds), **told}  # fmt: skip


def time_all(names: tuple[str, ...], folder: Path, rounds: int) -> dict[str, Any]:
    """Every contender on one folder, in turn; those that take long fewer times."""
    contenders = [Contender(name, folder) for name in names]
    for turn in range(rounds + 1):
        for contender in contenders:
            slow = bool(contender.seconds) and contender.seconds[0] > SLOW_SECONDS
            if contender.usable and not (slow and turn > 1):
                contender.go()
                if turn == 0 and not slow and contender.seconds and contender.seconds[0] < SLOW_SECONDS:
                    contender.seconds.clear()  # the first touch of a file is the disk's and not the reader's
    return {contender.name: contender.close() for contender in contenders}


def ratios(found: dict[str, Any], ours: str = "medmtl") -> dict[str, float]:
    """medmtl's time over each other's."""
    own = found[ours]["seconds"]
    return {
        name: round(own / entry["seconds"], 3)
        for name, entry in found.items()
        if name != ours and entry.get("seconds")
    }


def main() -> None:
    realdata = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data")
    cine = realdata / "sunnybrook" / "dicoms" / "SCD0000301"
    measured: dict[str, Any] = {"wanted": WANTED}
    with tempfile.TemporaryDirectory(prefix="medmtl-bench-") as name:
        scratch = Path(name)
        series = {
            "cine": (
                cine,
                9,
                "GE cine, 10 slices x 20 phases of 256 x 256, 200 files (Sunnybrook SCD0000301)",
            ),
            "fmri": (ingest_series.fmri(scratch / "fmri"), 3, ingest_series.FMRI),
            "compressed": (
                ingest_series.compressed(scratch / "jpeg2000"),
                5,
                ingest_series.COMPRESSED.format(100, 256),
            ),
            "compressed, long": (
                ingest_series.compressed(scratch / "long", 300, 512),
                2,
                ingest_series.COMPRESSED.format(300, 512),
            ),
        }
        for label, (folder, rounds, description) in series.items():
            if not folder.is_dir():
                measured[label] = {"missing": f"no {folder}"}
                continue
            contenders = (*FLOORS, *FULL)
            if label.startswith("compressed"):
                contenders = (*contenders, "decoding alone, one thread")
            if label == "compressed, long":
                contenders = tuple(name for name in contenders if "MONAI" not in name)
            found = time_all(contenders, folder, rounds)
            first, second = found["medmtl inspect"], found["medmtl inspect, second look"]
            measured[label] = {
                "series": description,
                "seconds": found,
                "medmtl / other": ratios(found),
                "second look / first look": round(second["seconds"] / first["seconds"], 3),
            }
            print(json.dumps({label: measured[label]}, indent=1))
    if dcm2niix := shutil.which("dcm2niix"):
        told = subprocess.run([dcm2niix, "-v"], capture_output=True, text=True, check=False).stdout
        measured["dcm2niix"] = told.strip().splitlines()[-1]
    measured["contenders"] = {name: CONTENDERS[name].__doc__ for name in CONTENDERS}
    print(write_result("ingest", "python benchmarks/ingest.py", measured))


if __name__ == "__main__":
    main()
