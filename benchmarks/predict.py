"""How fast and how safely studies are predicted.

python benchmarks/predict.py [--device cuda] [--size acdc] [--studies N] [--soak N] [--faulty N] [--kills N]
                             [--parts once,monai,overlap,asked,soak,faults]

`once`: one call for all studies against one process per study. `monai`: against MONAI's reader and inferer
in a plain loop. `overlap`: throughput against the slower of reading alone and computing alone. `asked`: a
classification alone against all tasks. Only where named: `soak`: resident memory over many studies; `faults`:
every tenth study is bad, and the process is killed at random moments. Writes
benchmarks/results/predict-DEVICE.json, or predict-DEVICE-PARTS.json for other parts than the first four.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from predict_data import SIZES, Size, make_model, write_studies
from predict_endurance import faults, soak
from predict_speed import monai, overlap
from predict_tools import CORES, command, run, timed
from record import write_result

from medmtl.inference import load_model, predict_prepared
from medmtl.inference.device import choose_device
from medmtl.inference.find import find_items
from medmtl.inference.layout import laid_out
from medmtl.inference.read import read_subject


def once(root: Path, model: Path, size: Size, options: argparse.Namespace) -> dict[str, Any]:
    """One command for all studies against one command per study, both with all that starting takes."""
    studies = write_studies(root / "studies", options.studies, size)

    def predicted(source: Path) -> float:
        return timed(lambda: run(command(model, source, root / f"out-{source.name}", options.device)))

    together = predicted(root / "studies")
    each = float(np.median([predicted(study) for study in studies[:3]]))
    return {
        "studies": len(studies),
        "studies_per_hour": round(3600 * len(studies) / together),
        "studies_per_hour_one_process_each": round(3600 / each),
        "ratio": round(each * len(studies) / together, 2),
    }


def asked(root: Path, model: Path, size: Size, options: argparse.Namespace) -> dict[str, Any]:
    """A classification that reads no masks, alone, against all tasks: computing, and the whole study."""
    loaded = load_model(model)
    context = laid_out(loaded.context(choose_device(options.device)))
    [path] = write_studies(root / "one", 1, size)
    [item] = find_items([path], loaded)
    case = read_subject(item, loaded).case
    seconds = {}
    for name, tasks in (("disease", ["disease"]), ("all", list(loaded.tasks))):
        predict = partial(predict_prepared, context, case, tasks)
        predict()
        seconds[name] = float(np.median([timed(predict) for _ in range(7)]))
    return {
        "seconds_alone": round(seconds["disease"], 4),
        "seconds_all": round(seconds["all"], 4),
        "ratio": round(seconds["disease"] / seconds["all"], 3),
    }


PARTS = {"once": once, "monai": monai, "overlap": overlap, "asked": asked, "soak": soak, "faults": faults}
USUAL = "once,monai,overlap,asked"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", choices=list(SIZES), default=None)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--soak", type=int, default=150)
    parser.add_argument("--faulty", type=int, default=60)
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--workers", type=int, default=0, help="processes in the part `faults`")
    parser.add_argument("--parts", default=USUAL)
    options = parser.parse_args()
    size_name = options.size or ("acdc" if options.device.startswith("cuda") else "small")
    size = SIZES[size_name]
    measured: dict[str, Any] = {"size": size_name, "cores": CORES, "device": options.device}
    told = " ".join(sys.argv[1:])
    file = f"predict-{options.device.split(':')[0]}"
    if options.parts != USUAL:
        file += f"-{options.parts.replace(',', '-')}"
    root = Path(tempfile.mkdtemp(prefix="medmtl-predict-"))
    try:
        models: dict[str, Path] = {}
        for name in options.parts.split(","):
            (root / name).mkdir()
            needed = "tiny" if name in ("soak", "faults") else size_name
            if needed not in models:
                models[needed] = make_model(root / f"model-{needed}", SIZES[needed], options.device)
            began = time.perf_counter()
            other = root / ("once" if name == "overlap" else "overlap")
            shared = other if name in ("once", "overlap") and other.exists() else root / name
            measured[name] = PARTS[name](shared, models[needed], size, options)
            measured[name]["took_seconds"] = round(time.perf_counter() - began, 1)
            print(name, json.dumps(measured[name]), flush=True)
            write_result(file, f"python benchmarks/predict.py {told}".strip(), measured)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
