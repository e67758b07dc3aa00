"""The preprocessed store: kills, how busy the cores are, and what a random patch of a CT costs.

python benchmarks/store.py [KILLS]     # writes benchmarks/results/store.json; 20 kills by default
"""

from __future__ import annotations

import csv
import hashlib
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import yaml
from record import write_result
from scipy import ndimage

from medmtl.data import open_dataset
from medmtl.data.crop import Box
from medmtl.data.prepare import Preparation
from medmtl.data.store import Recipe, Store

CASES, SHAPE = 16, (160, 160, 96)
MANY, MIDDLE = 24, (256, 256, 128)
LARGE, PATCH = (512, 512, 400), (128, 128, 128)
SPACING = (1.0, 1.0, 1.5)
WANTED = {
    "kills that end with the same bytes": "all",
    "share of the cores' time, running or waiting for a core": "at least 0.9",
    "bytes read per byte of a patch": "at most 3",
    "times faster than reading the whole NIfTI": "at least 5",
}


def ct(shape: tuple[int, int, int], seed: int) -> np.ndarray:
    """Something like a CT: smooth organs in a body in air, with the noise of a scanner, in whole HU."""
    noise = np.random.default_rng(seed)
    coarse = noise.normal(0, 400, [n // 8 + 2 for n in shape]).astype(np.float32)
    smooth = ndimage.zoom(coarse, [n / c for n, c in zip(shape, coarse.shape, strict=True)], order=1)[
        : shape[0], : shape[1], : shape[2]
    ]
    x, y = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    body = (x * x + y * y < 0.8)[:, :, None]
    image = np.where(body, 40 + smooth, -1000) + noise.normal(0, 20, shape).astype(np.float32)
    return np.clip(np.rint(image), -1024, 3000).astype(np.int16)


def write_cohort(root: Path, cases: int, shape: tuple[int, int, int]) -> Path:
    """A dataset of made-up CTs with a mask each."""
    affine = np.diag([-0.8, -0.8, 1.2, 1.0])
    rows = []
    for number in range(cases):
        folder = root / "volumes" / f"ct{number:02d}"
        folder.mkdir(parents=True)
        image = ct(shape, number)
        nibabel.save(nibabel.Nifti1Image(image, affine), folder / "image.nii.gz")
        nibabel.save(nibabel.Nifti1Image((image > 300).astype(np.uint8), affine), folder / "bone.nii.gz")
        name = f"ct{number:02d}"
        rows.append([name, name, "train", f"volumes/{name}/image.nii.gz", f"volumes/{name}/bone.nii.gz"])
    schema = {
        "medmtl_dataset": 1, "name": "ct", "modality": "CT", "channels": ["ct"],
        "columns": {"bone": {"kind": "mask", "labels": {"BONE": 1}}},
    }  # fmt: skip
    (root / "dataset.yaml").write_text(yaml.safe_dump(schema))
    with (root / "cases.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerows([["case_id", "patient", "split", "image", "bone"], *rows])
    return root


def recipe_of(dataset: Any, spacing: tuple[float, ...]) -> Recipe:
    window = [{"type": "window", "low": -990, "high": 1000, "mean": 40, "sd": 300}]
    preparation = Preparation.from_plain(
        {"spacing_mm": list(spacing), "patch": list(PATCH), "normalization": window}
    )
    return Recipe(preparation, dict(dataset.columns))


def prepare(root: str, folder: str, workers: int) -> None:
    """What is killed."""
    dataset = open_dataset(root)
    print("begin", flush=True)
    Store(Path(folder), dataset, recipe_of(dataset, SPACING)).prepare(dataset.cases, workers=workers)


def start(root: Path, folder: Path, workers: int) -> subprocess.Popen[bytes]:
    call = [sys.executable, __file__, "prepare", str(root), str(folder), str(workers)]
    return subprocess.Popen(call, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def digest(folder: Path) -> str:
    found = hashlib.blake2b()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix != ".lock":
            found.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def finished(folder: Path) -> int:
    return len(list((folder / "cases").glob("*.json"))) if folder.is_dir() else 0


def measure_kills(root: Path, reference: str, folder: Path, kills: int) -> dict[str, Any]:
    """One store after another: each is killed once at a random moment, goes on, and is compared.

    Every second time the workers are killed with it.
    """
    moments, same, done = random.Random(0), 0, []
    for number in range(kills):
        store = folder / f"killed{number}"
        process = start(root, store, 2)
        wanted = moments.randrange(CASES)  # somewhere after so many cases
        while finished(store) < wanted and process.poll() is None:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.5))
        done.append(finished(store))
        if number % 2:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
        prepare(str(root), str(store), 1)
        same += digest(store) == reference
        print(
            f"kill {number + 1}: {done[-1]} of {CASES} cases were done, same bytes {same} times", flush=True
        )
    return {"kills": kills, "same bytes": same, "cases done when killed": done, "cases": CASES}


def measure_busy(folder: Path) -> dict[str, Any]:
    """Share of the cores' time in which the processes ran or were ready to run, their start with it.

    Ready to run, as on a machine with other work a process may have to wait for a core that it would use.
    """
    root = write_cohort(folder / "many", MANY, MIDDLE)
    cores = len(os.sched_getaffinity(0))
    process = start(root, folder / "many.store", cores)
    assert process.stdout is not None
    process.stdout.readline()  # it has imported what it needs, and opened the dataset
    began, before = time.perf_counter(), _times(process.pid)
    seen: dict[int, tuple[float, float]] = {}
    while process.poll() is None:
        for pid in _family(process.pid):
            seen[pid] = max(_times(pid), seen.get(pid, (0.0, 0.0)))
        time.sleep(0.02)
    seconds = time.perf_counter() - began
    ran, waited = (sum(times[i] for times in seen.values()) - before[i] for i in (0, 1))
    return {
        "cores": cores,
        "cases": MANY,
        "voxels of a case": list(MIDDLE),
        "seconds": round(seconds, 1),
        "share of the cores' time, running": round(ran / seconds / cores, 3),
        "share of the cores' time, running or waiting for a core": round((ran + waited) / seconds / cores, 3),
        "load of the machine, others' work with it": round(os.getloadavg()[0], 1),
        "compressed MB written per second": round(_size(folder / "many.store") / seconds / 1e6, 1),
    }


def _times(pid: int) -> tuple[float, float]:
    """Seconds in which the threads of a process ran, and in which they waited for a core."""
    ran = waited = 0
    try:
        for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            one, other, _ = path.read_text().split()
            ran, waited = ran + int(one), waited + int(other)
    except OSError:
        pass  # it has just ended; what was seen before counts
    return ran / 1e9, waited / 1e9


def _family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *(int(child) for child in children)]


def _size(store: Path) -> int:
    return sum(path.stat().st_size for path in store.rglob("*.b2nd"))


def bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])


def measure_patches(folder: Path, draws: int = 30) -> dict[str, Any]:
    """Random patches out of a large CT in the store, beside reading its NIfTI file."""
    root = write_cohort(folder / "large", 1, LARGE)
    dataset = open_dataset(root)
    recipe = recipe_of(dataset, (None, None, None))  # type: ignore[arg-type]
    store = Store(folder / "large.store", dataset, recipe)
    store.prepare(dataset.cases, workers=1)
    (case,), _ = store.open(dataset.cases, columns=dataset.columns)
    drawn, own = random.Random(0), 4 * int(np.prod(PATCH))
    seconds, read = [], []
    for _ in range(draws):
        low = [drawn.randrange(n - p + 1) for n, p in zip(LARGE, PATCH, strict=True)]
        x, y, z = (first + p for first, p in zip(low, PATCH, strict=True))
        before, began = bytes_read(), time.perf_counter()
        part = case.crop([0], Box((low[0], low[1], low[2]), (x, y, z)))
        seconds.append(time.perf_counter() - began)
        read.append((bytes_read() - before) / (own + part.masks["bone"].nbytes))
    whole = []
    for _ in range(3):
        began = time.perf_counter()
        np.asanyarray(nibabel.load(dataset.cases[0].images[0]).dataobj)
        np.asanyarray(nibabel.load(dataset.cases[0].files["bone"]).dataobj)
        whole.append(time.perf_counter() - began)
    return {
        "volume": list(LARGE),
        "patch": list(PATCH),
        "bytes read per byte of image and mask, mean": round(statistics.mean(read), 2),
        "bytes read per byte of image and mask, most": round(max(read), 2),
        "milliseconds per patch": round(1e3 * statistics.median(seconds), 1),
        "milliseconds to read image and mask as NIfTI": round(1e3 * statistics.median(whole), 1),
        "times faster": round(statistics.median(whole) / statistics.median(seconds), 1),
        "share of the size in memory on the disk": round(
            _size(folder / "large.store") / (5 * int(np.prod(LARGE))), 3
        ),
    }


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        root = write_cohort(folder / "cohort", CASES, SHAPE)
        busy = measure_busy(folder)
        print(busy, flush=True)
        patches = measure_patches(folder)
        print(patches, flush=True)
        prepare(str(root), str(folder / "reference.store"), 1)
        killed = measure_kills(root, digest(folder / "reference.store"), folder, kills)
    measured = {"wanted": WANTED, "kills": killed, "busy": busy, "patches": patches}
    print(write_result("store", f"python benchmarks/store.py {kills}", measured))


if __name__ == "__main__":
    if sys.argv[1:2] == ["prepare"]:
        prepare(sys.argv[2], sys.argv[3], int(sys.argv[4]))
        os._exit(0)  # taking the libraries down is not preparing
    else:
        main()
