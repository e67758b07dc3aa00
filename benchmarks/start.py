"""Times what a user waits for before anything happens: the command's help and the import.

python benchmarks/start.py     # writes benchmarks/results/start.json
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from statistics import median

from record import write_result

REPEATS = 7
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


def main() -> None:
    measured = {name: seconds(arguments) for name, arguments in COMMANDS.items()}
    taken = {
        name: {"first": round(times[0], 3), "median": round(median(times), 3)}
        for name, times in measured.items()
    }
    print(write_result("start", "python benchmarks/start.py", {"seconds": taken}))
    print(json.dumps(taken, indent=2))


if __name__ == "__main__":
    main()
