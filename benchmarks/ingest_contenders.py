"""Ways of reading a folder of DICOM, one function each; benchmarks/ingest.py runs them.

A function that stands here does its imports and returns what is timed, which returns what came out of it.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Read = Callable[[], str]


def all_bytes(folder: Path) -> Read:
    """Open and read every file: the disk's (or its cache's) floor."""
    return lambda: f"{sum(len(path.read_bytes()) for path in folder.iterdir())} bytes"


def pydicom_headers(folder: Path) -> Read:
    """pydicom.dcmread(stop_before_pixels=True) of every file."""
    import pydicom

    def read() -> str:
        found = [pydicom.dcmread(path, stop_before_pixels=True).Rows for path in folder.iterdir()]
        return f"{len(found)} headers"

    return read


def medmtl_headers(folder: Path) -> Read:
    """medmtl.data.dicom.scan: headers, series, volumes, findings; no pixels."""
    from medmtl.data.dicom import scan

    def read() -> str:
        return f"{sum(len(series.volumes) for series in scan([folder]).series)} volumes planned"

    return read


def first_look(folder: Path) -> Read:
    """What medmtl inspect does: medmtl.report.inspection.look, without a cache."""
    return _look(folder, None)


def second_look(folder: Path) -> Read:
    """The same with the cache of an earlier look, as medmtl inspect --cache."""
    read = _look(folder, Path(tempfile.mkdtemp(prefix="medmtl-bench-cache-")) / "headers.sqlite")
    read()
    return read


def _look(folder: Path, cache: Path | None) -> Read:
    import medmtl.data.dicom  # noqa: F401 -- what inspect imports when it runs
    from medmtl.report.inspection import look

    def read() -> str:
        return f"{sum(len(series['volumes']) for series in look([folder], cache=cache)['series'])} volumes"

    return read


def _medmtl(folder: Path, workers: int | None) -> Read:
    from medmtl.data.dicom import load, scan

    def read() -> str:
        plans = [plan for series in scan([folder]).series for plan in series.volumes]
        return ", ".join(str(load(plan, workers=workers).array.shape) for plan in plans)

    return read


def medmtl(folder: Path) -> Read:
    """medmtl.data.dicom.scan and load of every volume."""
    return _medmtl(folder, None)


def medmtl_one_thread(folder: Path) -> Read:
    """The same with workers=1."""
    return _medmtl(folder, 1)


def dcm2niix(folder: Path) -> Read:
    """The program, writing uncompressed NIfTI (-z n)."""
    program = shutil.which("dcm2niix")
    if program is None:
        raise ImportError("dcm2niix is not installed")

    def read() -> str:
        with tempfile.TemporaryDirectory() as output:
            subprocess.run([program, "-z", "n", "-o", output, str(folder)], check=True, capture_output=True)
            return f"{len(list(Path(output).glob('*.nii')))} NIfTI files"

    return read


def simpleitk(folder: Path) -> Read:
    """SimpleITK's ImageSeriesReader on the file names of each series ID that GDCM finds."""
    import SimpleITK as sitk

    def read() -> str:
        sizes = []
        for series in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)):
            reader = sitk.ImageSeriesReader()
            reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series))
            sizes.append(reader.Execute().GetSize())
        return ", ".join(map(str, sizes))

    return read


def monai_pydicom(folder: Path) -> Read:
    """monai.data.PydicomReader: read and get_data."""
    from monai.data import PydicomReader

    def read() -> str:
        reader = PydicomReader()
        array, _ = reader.get_data(reader.read(folder))
        return str(array.shape)

    return read


def monai_itk(folder: Path) -> Read:
    """monai.data.ITKReader: read and get_data; needs the package itk."""
    import itk
    from monai.data import ITKReader

    itk.ImageSeriesReader  # noqa: B018 -- itk loads its modules when they are first named

    def read() -> str:
        reader = ITKReader()
        array, _ = reader.get_data(reader.read(folder))
        return str(array.shape)

    return read


def dicom2nifti(folder: Path) -> Read:
    """dicom2nifti.convert_directory, without compression or reorientation."""
    import dicom2nifti as package

    def read() -> str:
        with tempfile.TemporaryDirectory() as output:
            package.convert_directory(str(folder), output, compression=False, reorient=False)
            return f"{len(list(Path(output).glob('*.nii')))} NIfTI files"

    return read


def decoding_alone(folder: Path) -> Read:
    """The codec on each file's frame, one after the other, headers parsed beforehand: what decoding costs."""
    import openjpeg
    import pydicom
    from pydicom.encaps import generate_frames

    frames = [
        next(generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=1))
        for path in folder.iterdir()
    ]

    def read() -> str:
        return f"{len([openjpeg.decode(frame) for frame in frames])} frames"

    return read


CONTENDERS: dict[str, Callable[[Path], Read]] = {
    "all bytes": all_bytes,
    "headers by pydicom": pydicom_headers,
    "headers by medmtl": medmtl_headers,
    "medmtl inspect": first_look,
    "medmtl inspect, second look": second_look,
    "medmtl": medmtl,
    "medmtl, one thread": medmtl_one_thread,
    "dcm2niix": dcm2niix,
    "SimpleITK": simpleitk,
    "MONAI PydicomReader": monai_pydicom,
    "MONAI ITKReader": monai_itk,
    "dicom2nifti": dicom2nifti,
    "decoding alone, one thread": decoding_alone,
}


def answer(**told: Any) -> None:
    print(json.dumps(told), flush=True)


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    try:
        read = CONTENDERS[name](folder)
    except ImportError as error:
        answer(missing=str(error))
        return
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer(ready=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        try:
            got = read()
        except Exception as error:  # noqa: BLE001 -- whatever a contender fails with is its result
            answer(failed=f"{type(error).__name__}: {error}"[:200])
            return
        seconds = time.perf_counter() - began
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        answer(seconds=seconds, got=got[:200], peak_mb=round(grown / 1024, 1))


if __name__ == "__main__":
    main()
