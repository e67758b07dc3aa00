"""What the reproductions share: a results file that is written as it fills, a time limit, the machine."""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"

if importlib.util.find_spec("medmtl") is None:  # from a checkout, without installing anything
    sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402


def parser(description: str, *, minutes: float) -> argparse.ArgumentParser:
    """The options of every reproduction."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options.add_argument("--minutes", type=float, default=minutes, help="stop then, with what there is")
    options.add_argument("--quick", action="store_true", help="a smoke test on a CPU; writes no result")
    options.add_argument("--commit", default=None, help="what is measured, where git is not at hand")
    options.add_argument("--output", type=Path, default=RESULTS, help="folder of the results file")
    return options


class Clock:
    """Minutes since it was made, against a limit."""

    def __init__(self, minutes: float) -> None:
        self.limit = 60 * minutes
        self.began = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    @property
    def share(self) -> float:
        """Part of the limit that is gone, above 1 when it is over."""
        return self.seconds / max(self.limit, 1e-9)

    @property
    def over(self) -> bool:
        return self.share > 1


class Results:
    """A results file that always holds everything measured so far.

    Args:
        name: file name without suffix.
        arguments: of the script; a quick run goes beside the real results, not over them.
    """

    def __init__(self, name: str, arguments: argparse.Namespace) -> None:
        suffix = "-quick" if arguments.quick else ""
        folder = Path(os.environ.get("TMPDIR", "/tmp")) if arguments.quick else arguments.output  # noqa: S108
        self.path = folder / f"{name}{suffix}.json"
        self.found: dict[str, Any] = {
            "command": f"python {_relative(sys.argv[0])} {shlex.join(sys.argv[1:])}".strip(),
            "commit": arguments.commit or _commit(),
            "machine": _machine(arguments.device),
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "numpy": np.__version__,
            },
        }

    def update(self, **parts: Any) -> None:
        """Takes measured parts in and writes the file, whole or not at all."""
        self.found.update(parts)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = self.path.with_suffix(".part")
        whole.write_text(json.dumps(rounded(self.found), indent=1) + "\n", encoding="utf-8")
        whole.replace(self.path)


def rounded(value: Any) -> Any:
    """Numbers to five digits; NaN and infinity, which JSON does not know, as None."""
    if isinstance(value, dict):
        return {str(key): rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(part) for part in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def mean_sd(values: Sequence[float]) -> dict[str, float]:
    """Mean and sample standard deviation."""
    array = np.asarray(values, dtype=float)
    return {"mean": float(array.mean()), "sd": float(array.std(ddof=1)) if len(array) > 1 else 0.0}


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table, its first row the head."""
    head, *body = rows
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body)]
    return "\n".join(lines)


def _relative(path: str) -> str:
    full = Path(path).resolve()
    return full.relative_to(ROOT).as_posix() if full.is_relative_to(ROOT) else full.name


def _commit() -> str:
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False, cwd=ROOT
        )
    except OSError:
        return "unknown"
    return described.stdout.strip() or "unknown"


def _machine(device: str) -> str:
    host = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores"
    return f"{host}, {torch.cuda.get_device_name()}" if device.startswith("cuda") else host
