"""Times what a user waits for before anything happens: the command's help and the import.

python benchmarks/start.py     # writes benchmarks/results/start.json
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

REPEATS = 7
RESULT = Path(__file__).parent / "results" / "start.json"
COMMANDS = {
    "medmtl --help": ["-m", "medmtl", "--help"],
    "import medmtl": ["-c", "import medmtl"],
    "import torch": ["-c", "import torch"],
    "bare python": ["-c", ""],
}


def seconds(arguments: list[str]) -> list[float]:
    """Wall-clock seconds of repeated fresh processes; the first may read from a cold disk."""
    taken = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - began)
    return taken


def commit() -> str:
    """The commit that was measured, with a mark when files differ from it."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return described.stdout.strip() or "unknown"


def main() -> None:
    measured = {name: seconds(arguments) for name, arguments in COMMANDS.items()}
    result = {
        "command": "python benchmarks/start.py",
        "commit": commit(),
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "seconds": {
            name: {"first": round(taken[0], 3), "median": round(median(taken), 3)}
            for name, taken in measured.items()
        },
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result["seconds"], indent=2))


if __name__ == "__main__":
    main()
