"""Prediction of many studies: memory over thousands, and what bad studies and kills leave behind."""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from predict_data import FAULTS, SIZES, Size, write_studies
from predict_tools import FORMATS, command, run

from medmtl.inference import load_model, predict_studies
from medmtl.inference.find import find_items
from medmtl.inference.options import Options


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
    assert len(resident) == options.soak, f"{len(resident)} of {options.soak} studies"
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
    good = [case_id for case_id in expected.index if case_id not in bad]
    finished_when_killed: list[int] = []
    for number in range(options.kills):
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if number % 5 == 4:  # while it loads and looks for studies
            time.sleep(draw.uniform(0.0, 6.0))
        else:  # in this part of the studies
            share = (number + draw.random()) / (options.kills + 1)
            wanted = max(int(share * len(good)), _finished(root / "out"))
            while process.poll() is None and _finished(root / "out") <= wanted:
                time.sleep(0.02)
            time.sleep(draw.uniform(0.0, 0.2))
        if process.poll() is not None:
            break  # all was done before it could be killed
        process.kill()
        process.wait()
        finished_when_killed.append(_finished(root / "out"))
    run(arguments)
    table = pd.read_csv(root / "out" / "predictions.csv", dtype={"case_id": str}).set_index("case_id")
    values = [name for name in expected.columns if "." in name and not name.startswith("quality")]
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
        "bad": len(bad),
        "kills": len(finished_when_killed),
        "finished_when_killed": finished_when_killed,
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
