"""The evolution strategy beside draws by chance, on objectives whose optimum is known; on a CPU, in a minute.

python benchmarks/search_toys.py    # writes benchmarks/results/search-toys.json

The objective stands for the geometric mean of metrics: exp(-(squared distance in decades from the best ratio
of the task weights) / 2), with update frequencies, a choice of two, and noise where the problem has them. Its
maximum is 1. Reported after 12, 20, 40 and 80 trials: mean and least over seeds of the best objective so far,
without its noise.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from record import write_result

import medmtl.search.evolution as evolution
from medmtl.search import Choice, Evolution, Number, Tried
from medmtl.search.space import Variable

SEEDS = tuple(range(24))
TRIALS = (12, 20, 40, 80)
PROBLEMS: dict[str, dict[str, Any]] = {
    "2 tasks": {"best": (1.0, 30.0)},
    "3 tasks": {"best": (1.0, 10.0, 50.0)},
    "3 tasks, noise 0.02": {"best": (1.0, 10.0, 50.0), "noise": 0.02},
    "3 tasks, frequencies": {"best": (1.0, 10.0, 50.0), "every": (1, 3, 5)},
    "3 tasks, frequencies, a choice": {"best": (1.0, 10.0, 50.0), "every": (1, 3, 5), "choice": True},
    "6 tasks": {"best": (1.0, 10.0, 50.0, 2.0, 5.0, 20.0)},
}
Draw = Callable[[int, list[Tried]], list[dict[str, Any]]]


def space_of(problem: Mapping[str, Any]) -> tuple[dict[str, Variable], list[str]]:
    names = [f"weight.{i}" for i in range(len(problem["best"]))]
    space: dict[str, Variable] = {
        n: Number(0.1, 100.0 if i else 1000.0, log=True) for i, n in enumerate(names)
    }
    space |= {f"every.{i}": Number(1, 10, whole=True) for i in range(len(problem.get("every", ())))}
    if problem.get("choice"):
        space["loss"] = Choice(("ce", "focal"))
    return space, names


def value_of(problem: Mapping[str, Any], names: list[str], params: Mapping[str, Any]) -> float:
    logs, best = np.log10([params[name] for name in names]), np.log10(problem["best"])
    apart = ((logs - logs.mean() - best + best.mean()) ** 2).sum() / 2
    late = sum((params[f"every.{i}"] - n) ** 2 for i, n in enumerate(problem.get("every", ()))) / 50
    return math.exp(-apart - late) * (0.8 if params.get("loss") == "ce" else 1.0)


def course(problem: Mapping[str, Any], draw: Draw, seed: int) -> list[float]:
    """The best objective after each of the numbers of trials."""
    _, names = space_of(problem)
    rng, history, true = np.random.default_rng([7, seed]), list[Tried](), list[float]()
    while len(history) < max(TRIALS):
        new = draw(len(history), history)
        if not new:  # every region was tried
            break
        for params in new:
            true.append(value_of(problem, names, params))
            seen = true[-1] + problem.get("noise", 0.0) * rng.normal()
            history.append(Tried(len(history), params, seen))
    picks = [max(range(min(n, len(history))), key=lambda i: history[i].value or 0.0) for n in TRIALS]
    return [true[pick] for pick in picks]


def draws(problem: Mapping[str, Any], method: str, seed: int) -> Draw:
    space, names = space_of(problem)
    search, rng = Evolution(space, weights=names, seed=seed), np.random.default_rng([11, seed])
    if method == "by chance":
        return lambda _, __: list(itertools.islice(search._anywhere(rng), 4))
    return lambda tried, history: search.propose(search.locate(tried)[0], history)  # type: ignore[index]


def main() -> None:
    found: dict[str, Any] = {}
    slope = evolution.uphill
    for name, problem in PROBLEMS.items():
        for method in ("by chance", "evolution without the slope", "evolution"):
            evolution.uphill = (lambda *_: None) if "without" in method else slope  # type: ignore[assignment]
            table = np.array([course(problem, draws(problem, method, seed), seed) for seed in SEEDS])
            found.setdefault(name, {})[method] = {
                f"{n} trials": {
                    "mean": round(float(column.mean()), 3),
                    "least": round(float(column.min()), 3),
                }
                for n, column in zip(TRIALS, table.T, strict=True)
            }
            print(name, method, found[name][method], flush=True)
    settings = {"seeds": len(SEEDS)}
    print(
        write_result(
            "search-toys", "python benchmarks/search_toys.py", {"settings": settings, "problems": found}
        )
    )


if __name__ == "__main__":
    main()
