"""Prediction as a user runs it, against MONAI's loop, and against reading and computing each alone."""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from predict_data import Size, write_studies
from predict_tools import CORES, FORMATS, Mark, mark, once_running, timed, workers_of_this

from medmtl.inference import load_model, predict_prepared, predict_studies
from medmtl.inference.device import choose_device
from medmtl.inference.find import find_items
from medmtl.inference.items import Item
from medmtl.inference.layout import laid_out
from medmtl.inference.options import Options
from medmtl.inference.read import read_subject
from medmtl.inference.studies import usual_threads

MOST_OF_MONAI = 40
"""Studies that MONAI's loop is timed over."""
TO_COMPUTE = 12
"""Studies that each process computes when computing alone is timed."""


def monai(root: Path, model: Path, size: Size, options: argparse.Namespace) -> dict[str, Any]:
    """The segmentation alone, NIfTI in and NIfTI out, against what MONAI's documentation shows."""
    files = write_studies(root / "nifti", options.studies, size, nifti=True)
    ask = Options(("anatomy",), FORMATS, preview=False, device=options.device)
    ours = _as_a_user(model, root / "nifti", root / "ours", ask)
    theirs = _in_a_plain_loop(root, model, files, options.device)
    per_study = ours["seconds"] / len(files)
    return {
        **ours,
        **theirs,
        "ratio": round(theirs["seconds_monai"] / theirs["studies_monai"] / per_study, 2),
        "ratio_once_running": round(
            theirs["seconds_monai"] / theirs["studies_monai"] / ours["seconds_per_study_once_running"], 2
        ),
        "note": (
            "ours begins with the start of its processes; MONAI's loop begins warm, has as many of PyTorch's "
            "threads as make it faster, one or one per core, and leaves its labels on the network's grid; "
            "ours brings them back to the file's"
        ),
    }


def _as_a_user(model: Path, source: Path, output: Path, ask: Options) -> dict[str, Any]:
    """`predict_studies` with the model's folder and all defaults, as the command calls it."""
    marks: list[Mark] = []
    workers = 0

    def look(*_: int) -> None:
        nonlocal workers
        marks.append(mark())
        workers = max(workers, workers_of_this())

    began = mark()
    found = predict_studies(model, [source], output, ask, progress=look)
    ended = mark()
    assert (found.table["status"] == "ok").all()
    processes = workers or 1
    return {
        "studies": len(marks),
        "processes": processes,
        "in_the_calling_process": not workers,
        "threads_that_compute_each": max(1, CORES // processes),
        "studies_at_hand_each": usual_threads(processes),
        "seconds": round(ended.wall - began.wall, 2),
        "studies_per_hour": round(3600 * len(marks) / (ended.wall - began.wall)),
        "cpu_seconds_per_study": round((ended.cpu - began.cpu) / len(marks), 4),
        **once_running(marks),
    }


def _in_a_plain_loop(root: Path, model: Path, files: Sequence[Path], device_name: str) -> dict[str, Any]:
    import nibabel
    from monai.inferers import SlidingWindowInferer
    from monai.transforms import (
        Compose,
        EnsureChannelFirst,
        LoadImage,
        NormalizeIntensity,
        Orientation,
        Spacing,
    )

    before = torch.get_num_threads()
    loaded = load_model(model)
    device = choose_device(device_name)
    spacing = nibabel.load(files[0]).header.get_zooms()
    pixdim = [mm or float(own) for mm, own in zip(loaded.preparation.spacing_mm, spacing, strict=False)]
    read = Compose(
        [
            LoadImage(image_only=True, reader="NibabelReader"),
            EnsureChannelFirst(),
            Orientation("RAS", labels=None),
            Spacing(pixdim, mode="bilinear"),
            NormalizeIntensity(channel_wise=True),
        ]
    )
    context = loaded.context(device)
    infer = SlidingWindowInferer(loaded.preparation.patch, sw_batch_size=4, overlap=0.5, mode="gaussian")

    def logits(patch: torch.Tensor) -> torch.Tensor:
        cases = torch.arange(len(patch), device=device)
        with context.autocast():
            features = context.network.features(
                patch, cases, patch.new_ones((len(patch), 3)), patch.new_zeros((len(patch), 0))
            )
            return context.network.run_dense(features, ("anatomy",))["anatomy"][0].float()

    def predict(path: Path) -> None:
        image = read(path)
        with torch.inference_mode():
            frames = [infer(frame[None, None].to(device).as_tensor(), logits) for frame in image]
        labels = torch.stack([frame[0].argmax(0) for frame in frames], -1).to(torch.uint8).cpu().numpy()
        nibabel.save(nibabel.Nifti1Image(labels, np.asarray(image.affine)), root / f"monai-{path.name}")

    predict(files[0])
    tried = {threads: _with_threads(threads, lambda: predict(files[0])) for threads in {1, CORES}}
    fastest = min(tried, key=lambda threads: tried[threads])
    torch.set_num_threads(fastest)
    chosen = files[:MOST_OF_MONAI]
    began = mark()
    seconds = timed(lambda: [predict(path) for path in chosen])
    ended = mark()
    torch.set_num_threads(before)
    return {
        "studies_monai": len(chosen),
        "threads_monai": fastest,
        "seconds_monai": round(seconds, 2),
        "cpu_seconds_per_study_monai": round((ended.cpu - began.cpu) / len(chosen), 4),
    }


def _with_threads(threads: int, call: Callable[[], None]) -> float:
    torch.set_num_threads(threads)
    return timed(call)


def overlap(root: Path, model: Path, size: Size, options: argparse.Namespace) -> dict[str, Any]:
    """Throughput against reading alone and computing alone, in as many processes, and how busy the CPU is."""
    if not (root / "studies").exists():
        write_studies(root / "studies", options.studies, size)
    ask = Options(write=FORMATS, preview=False, device=options.device)
    ours = _as_a_user(model, root / "studies", root / "overlap", ask)
    items = list(find_items([root / "studies"], load_model(model)))
    reading, computing = _alone(model, items, options.device, int(ours["processes"]))
    steady = ours["seconds_per_study_once_running"]
    return {
        **ours,
        "seconds_reading_alone": round(reading, 4),
        "seconds_computing_alone": round(computing, 4),
        "ratio_to_the_slower": round(max(reading, computing) / steady, 3),
    }


def _alone(model: Path, items: Sequence[Item], device: str, processes: int) -> tuple[float, float]:
    """Seconds per study of reading alone and of computing alone, in so many processes at once."""
    spawn = multiprocessing.get_context("spawn")
    barrier, answers = spawn.Barrier(processes), spawn.SimpleQueue()
    started = [
        spawn.Process(
            target=_one_of_them,
            args=(str(model), items[number::processes], device, processes, barrier, answers),
        )
        for number in range(processes)
    ]
    for process in started:
        process.start()
    found = [answers.get() for _ in started]
    for process in started:
        process.join()
    rates = np.array([[n / seconds for n, seconds in both] for both in found]).sum(0)
    return float(1 / rates[0]), float(1 / rates[1])


def _one_of_them(
    model: str, items: Sequence[Item], device: str, processes: int, barrier: Any, answers: Any
) -> None:
    """Read all given studies; then compute some of them, already read: (studies, seconds) of both."""
    torch.set_num_threads(max(1, CORES // processes))
    loaded = load_model(model)
    context = laid_out(loaded.context(choose_device(device)))
    tasks = list(loaded.tasks)
    subjects = [read_subject(item, loaded) for item in items[:TO_COMPUTE]]
    predict_prepared(context, subjects[0].case, tasks)
    barrier.wait()
    with ThreadPoolExecutor(usual_threads(processes)) as pool:
        began = time.perf_counter()
        for _ in pool.map(lambda item: read_subject(item, loaded).close(), items):
            pass
        reading = time.perf_counter() - began
    barrier.wait()
    computing = timed(lambda: [predict_prepared(context, subject.case, tasks) for subject in subjects])
    barrier.wait()
    answers.put(((len(items), reading), (len(subjects), computing)))
