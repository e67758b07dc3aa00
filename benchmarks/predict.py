"""How fast and how safely studies are predicted.

python benchmarks/predict.py [--device cuda] [--size acdc] [--studies N] [--soak N] [--faulty N] [--kills N]
                             [--parts once,monai,overlap,asked,soak,faults]

`once`: one call for all studies against one process per study. `monai`: against MONAI's reader and inferer
in a plain loop. `overlap`: throughput against the slower of reading alone and computing alone. `asked`: a
classification alone against all tasks. `soak`: resident memory over many studies. `faults`: every tenth
study is bad, and the process is killed at random moments. Writes benchmarks/results/predict-DEVICE.json,
or predict-DEVICE-PARTS.json for some of the parts.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from predict_data import FAULTS, SIZES, Size, make_model, write_studies
from record import write_result

from medmtl.inference import load_model, predict_prepared, predict_studies
from medmtl.inference.device import choose_device
from medmtl.inference.find import find_items
from medmtl.inference.options import Options
from medmtl.inference.read import read_subject
from medmtl.inference.studies import usual_threads

CORES = len(os.sched_getaffinity(0))
FORMATS = ("nifti", "csv")


def command(model: Path, source: Path, output: Path, device: str, *more: str) -> list[str]:
    start = [sys.executable, "-m", "medmtl", "predict", str(model), str(source), "-o", str(output)]
    return [*start, "--device", device, "--write", ",".join(FORMATS), *more]


def timed(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def run(arguments: list[str]) -> None:
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr


def once(root: Path, model: Path, size: Size, options: argparse.Namespace) -> dict[str, Any]:
    """One command for all studies against one command per study, both with all that starting takes."""
    studies = write_studies(root / "studies", options.studies, size)
    together = timed(lambda: run(command(model, root / "studies", root / "together", options.device)))
    alone = [
        timed(lambda s=study: run(command(model, s, root / f"alone{s.name}", options.device)))
        for study in studies[: min(4, len(studies))]
    ]
    each = float(np.median(alone))
    return {
        "studies": len(studies),
        "studies_per_hour": round(3600 * len(studies) / together),
        "studies_per_hour_one_process_each": round(3600 / each),
        "ratio": round(each * len(studies) / together, 2),
    }


def monai(root: Path, model: Path, size: Size, options: argparse.Namespace) -> dict[str, Any]:
    """The segmentation alone, NIfTI in and NIfTI out, against what MONAI's documentation shows."""
    from monai.inferers import SlidingWindowInferer
    from monai.transforms import (
        Compose,
        EnsureChannelFirst,
        LoadImage,
        NormalizeIntensity,
        Orientation,
        Spacing,
    )

    files = write_studies(root / "nifti", min(options.studies, 40), size, nifti=True)
    loaded = load_model(model)
    device = choose_device(options.device)
    ask = Options(("anatomy",), FORMATS, preview=False, device=options.device)
    predict_studies(loaded, files[:2], root / "warm", ask, workers=0)
    ours = timed(lambda: predict_studies(loaded, [root / "nifti"], root / "ours", ask, workers=0))

    pixdim = [mm or size.spacing_mm[axis] for axis, mm in enumerate(loaded.preparation.spacing_mm)]
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

    import nibabel

    def loop() -> None:
        for path in files:
            image = read(path)
            with torch.inference_mode():
                frames = [infer(frame[None, None].to(device).as_tensor(), logits) for frame in image]
            labels = torch.stack([frame[0].argmax(0) for frame in frames], -1).to(torch.uint8).cpu().numpy()
            nibabel.save(nibabel.Nifti1Image(labels, np.asarray(image.affine)), root / f"monai-{path.name}")

    theirs = timed(loop)
    return {
        "studies": len(files),
        "seconds": round(ours, 2),
        "seconds_monai": round(theirs, 2),
        "ratio": round(theirs / ours, 2),
        "note": "MONAI's loop leaves its labels on the network's grid; ours brings them back to the file's",
    }


def overlap(root: Path, model: Path, size: Size, options: argparse.Namespace) -> dict[str, Any]:
    """Throughput against reading alone and computing alone, and how busy the CPU is."""
    count = options.studies
    if not (root / "studies").exists():
        write_studies(root / "studies", count, size)
    loaded = load_model(model)
    ask = Options(write=FORMATS, preview=False, device=options.device)
    items = list(find_items([root / "studies"], loaded))
    context = loaded.context(choose_device(options.device))
    subjects = [read_subject(item, loaded) for item in items[: min(12, count)]]
    predict_prepared(context, subjects[0].case, list(loaded.tasks))

    with ThreadPoolExecutor(usual_threads(1)) as pool:
        reading = (
            timed(lambda: list(pool.map(lambda item: read_subject(item, loaded).close(), items))) / count
        )
    computing = timed(
        lambda: [predict_prepared(context, subject.case, list(loaded.tasks)) for subject in subjects]
    ) / len(subjects)
    marks: list[tuple[float, float]] = []
    began = time.process_time()
    whole = timed(
        lambda: predict_studies(
            loaded,
            [root / "studies"],
            root / "overlap",
            ask,
            workers=0,
            progress=lambda *_: marks.append((time.perf_counter(), time.process_time())),
        )
    )
    first, last = marks[len(marks) // 10], marks[-1 - len(marks) // 10]
    steady = (last[0] - first[0]) / (len(marks) - 1 - 2 * (len(marks) // 10))
    return {
        "studies": count,
        "seconds_per_study": round(whole / count, 4),
        "seconds_per_study_once_running": round(steady, 4),
        "seconds_reading_alone": round(reading, 4),
        "seconds_computing_alone": round(computing, 4),
        "ratio_to_the_slower": round(max(reading, computing) / steady, 3),
        "cpu_busy": round((last[1] - first[1]) / (last[0] - first[0]) / CORES, 3),
        "cpu_seconds_per_study": round((time.process_time() - began) / count, 4),
    }


def asked(root: Path, model: Path, size: Size, options: argparse.Namespace) -> dict[str, Any]:
    """A classification that reads no masks, alone, against all tasks: computing, and the whole study."""
    loaded = load_model(model)
    context = loaded.context(choose_device(options.device))
    [path] = write_studies(root / "one", 1, size)
    [item] = find_items([path], loaded)
    case = read_subject(item, loaded).case
    seconds = {}
    for name, tasks in (("disease", ["disease"]), ("all", list(loaded.tasks))):
        predict_prepared(context, case, tasks)
        rounds = [timed(lambda t=tasks: predict_prepared(context, case, t)) for _ in range(7)]
        seconds[name] = float(np.median(rounds))
    return {
        "seconds_alone": round(seconds["disease"], 4),
        "seconds_all": round(seconds["all"], 4),
        "ratio": round(seconds["disease"] / seconds["all"], 3),
    }


def soak(root: Path, model: Path, size: Size, options: argparse.Namespace) -> dict[str, Any]:
    """Resident memory over many studies, from when a tenth is done."""
    tiny = SIZES["tiny"]
    write_studies(root / "many", options.soak, tiny)
    loaded = load_model(model)
    resident: list[int] = []

    def look(*_: int) -> None:
        resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))

    ask = Options(write=FORMATS, preview=False, device=options.device)
    predict_studies(loaded, [root / "many"], root / "soaked", ask, workers=0, progress=look)
    tenth = max(1, len(resident) // 10)
    early, late = np.median(resident[tenth : 2 * tenth]), np.median(resident[-tenth:])
    return {
        "studies": len(resident),
        "mib_after_a_tenth": round(float(early) / 2**20, 1),
        "mib_at_the_end": round(float(late) / 2**20, 1),
        "growth": round(float(late / early) - 1, 4),
    }


def faults(root: Path, model: Path, size: Size, options: argparse.Namespace) -> dict[str, Any]:
    """Every tenth study is bad, and the process is killed at random moments: what is there at the end?"""
    tiny, count, draw = SIZES["tiny"], options.faulty, random.Random(0)
    studies = write_studies(root / "faulty", count, tiny, seed=9)
    whole = root / "untouched"
    loaded = load_model(model)
    ask = Options(write=FORMATS, preview=False, device=options.device)
    expected = predict_studies(loaded, [root / "faulty"], whole, ask, workers=0).table.set_index("case_id")
    names = {study.name for study in studies}
    uids = {
        next(part for part in Path(item.paths[0]).parts if part in names): item.case_id
        for item in find_items([root / "faulty"], loaded)
    }
    bad: dict[str, frozenset[str]] = {}
    for position, study in enumerate(studies[::10]):
        plant, codes = list(FAULTS.values())[position % len(FAULTS)]
        plant(study)
        bad[uids[study.name]] = codes
    arguments = command(
        model, root / "faulty", root / "out", options.device, "--workers", str(options.workers)
    )
    killed = 0
    while killed < options.kills:
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = _finished(root / "out")
        if killed % 5 == 4:  # while it loads and looks for studies
            time.sleep(draw.uniform(0.0, 6.0))
        else:  # among the studies
            while process.poll() is None and _finished(root / "out") == before:
                time.sleep(0.01)
            time.sleep(draw.uniform(0.0, options.faulty / options.kills / 15))
        if process.poll() is not None:
            break  # all was done before it could be killed
        process.kill()
        process.wait()
        killed += 1
    run(arguments)
    table = pd.read_csv(root / "out" / "predictions.csv", dtype={"case_id": str}).set_index("case_id")
    values = [name for name in expected.columns if "." in name and not name.startswith("quality")]
    good = [case_id for case_id in expected.index if case_id not in bad]
    same = [
        case_id
        for case_id in good
        if case_id in table.index
        and table.loc[case_id, "status"] == "ok"
        and all(_same(table.loc[case_id, name], expected.loc[case_id, name]) for name in values)
    ]
    reasons = [c for c, codes in bad.items() if c in table.index and table.loc[c, "code"] in codes]
    return {
        "studies": count,
        "kills": killed,
        "rows": len(table),
        "double": int(table.index.duplicated().sum()),
        "right_results": f"{len(same)} of {len(good)}",
        "right_reasons": f"{len(reasons)} of {len(bad)}",
        "codes": table["code"].value_counts().to_dict(),
        "halves_left": len(list((root / "out").glob(".*.part"))),
    }


def _finished(output: Path) -> int:
    return len(list(output.glob("*/prediction.json")))


def _same(one: Any, other: Any) -> bool:
    if isinstance(other, str):
        return bool(one == other)
    return bool(np.isclose(float(one), float(other), rtol=1e-3, atol=1e-6, equal_nan=True))


PARTS = {"once": once, "monai": monai, "overlap": overlap, "asked": asked, "soak": soak, "faults": faults}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", choices=list(SIZES), default=None)
    parser.add_argument("--studies", type=int, default=24)
    parser.add_argument("--soak", type=int, default=150)
    parser.add_argument("--faulty", type=int, default=60)
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--workers", type=int, default=0, help="processes in the part `faults`")
    parser.add_argument("--parts", default=",".join(PARTS))
    options = parser.parse_args()
    size_name = options.size or ("acdc" if options.device.startswith("cuda") else "small")
    size = SIZES[size_name]
    measured: dict[str, Any] = {"size": size_name, "cores": CORES, "device": options.device}
    root = Path(tempfile.mkdtemp(prefix="medmtl-predict-"))
    try:
        model = make_model(root / "model", size, options.device)
        small = size if size_name == "tiny" else SIZES["tiny"]
        tiny_model = model if size_name == "tiny" else make_model(root / "tiny", small, options.device)
        for name in options.parts.split(","):
            (root / name).mkdir()
            used = tiny_model if name in ("soak", "faults") else model
            began = time.perf_counter()
            shared = root / "once" if name == "overlap" and (root / "once").exists() else root / name
            measured[name] = PARTS[name](shared, used, size, options)
            measured[name]["took_seconds"] = round(time.perf_counter() - began, 1)
            print(name, json.dumps(measured[name]), flush=True)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    told = " ".join(sys.argv[1:])
    name = f"predict-{options.device.split(':')[0]}"
    if options.parts != ",".join(PARTS):
        name += f"-{options.parts.replace(',', '-')}"
    write_result(name, f"python benchmarks/predict.py {told}".strip(), measured)


if __name__ == "__main__":
    main()
