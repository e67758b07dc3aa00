"""Leang et al., ITSC 2020, on two tasks of a phantom heart: nine strategies, judged by the geometric mean.

python benchmarks/papers/leang.py [--device cuda --parallel 8 --minutes 4] [--quick]
    # benchmarks/results/papers-leang.json, and a table on the terminal

Segmentation (Dice) and diagnosis (balanced accuracy). The strategies: equal weights, handcrafted by first
losses, dynamic scaling by the last epoch, uncertainty (Kendall), GradNorm, geometric loss, learned weights,
and evolutionary meta-learning without and with asynchronous backpropagation. medmtl's default and UW-O, UW-SO
stand beside them.

The evolution has the paper's settings: weights from 0.1 to 1000 and 0.1 to 100 on an exponential scale, an
initial population of 4, 4 new configurations a round, 2 parents, weight transfer (children go on from the
best model so far, for a quarter of the steps), update frequencies 1 to 10. It is judged on validation cases
while it runs. Two lines come of it: the evolved model itself, and its best weights trained from the start.
"""

from __future__ import annotations

import math
import tempfile
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from cardiac import CASES, Arm, Team, phantoms, study_of, three_tasks
from results import Clock, Results, markdown, parser

from medmtl.search.evolution import Evolution
from medmtl.search.rounds import Tried, best_of
from medmtl.search.space import Number

TASKS = ("anatomy", "disease")
STRATEGIES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("equal", "ew", {}),
    ("handcrafted", "handcrafted", {"reference": "anatomy"}),
    ("dynamic scaling", "dynamic-scaling", {"reference": "anatomy"}),
    ("uncertainty", "uw", {}),
    ("GradNorm", "gradnorm", {}),
    ("geometric loss", "gls", {}),
    ("learned weights", "weight-learning", {}),
    ("medmtl's default", "balanced", {}),
    ("UW-O", "uw-o", {}),
    ("UW-SO, T = 20", "uw-so", {"temperature": 20.0}),
)
EVOLUTIONS = {"evolution": False, "evolution, asynchronous": True}
LEAST = 1e-3
"""A metric below counts as this much."""


def geometric_mean(metrics: Mapping[str, float]) -> float:
    """Of the tasks' metrics, all of which are better when larger."""
    return math.exp(mean(math.log(max(value, LEAST)) for value in metrics.values()))


@dataclass
class Search:
    """An evolution that gives out arms round by round, and takes their results.

    Attributes:
        name: of the strategy.
        asynchronous: search along how often a task takes part.
        steps: of a training in the first round.
        rounds: the first population and so many rounds of children after it.
        folder: for weights.
        seed: of the draws.
    """

    name: str
    asynchronous: bool
    steps: int
    rounds: int
    folder: Path
    seed: int = 0
    number: int = 0
    history: list[Tried] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    waiting: deque[Arm] = field(default_factory=deque)
    asked: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        space = {"anatomy": Number(0.1, 1000.0, log=True), "disease": Number(0.1, 100.0, log=True)}
        if self.asynchronous:
            space |= {f"every {task}": Number(1, 10, whole=True) for task in TASKS}
        first = dict.fromkeys(TASKS, 1.0) | (
            {f"every {task}": 1 for task in TASKS} if self.asynchronous else {}
        )
        self.strategy = Evolution(space, weights=TASKS, continues=True, first=first, seed=self.seed)
        self._begin()

    def options(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Of `scalarization`: weights that sum to 1, and how often each task takes part."""
        total = sum(params[task] for task in TASKS)
        weights = {task: params[task] / total for task in TASKS}
        if not self.asynchronous:
            return {"weights": weights}
        return {"weights": weights, "every": {task: params[f"every {task}"] for task in TASKS}}

    def _begin(self) -> None:
        """Ask for the configurations of the next round."""
        best = best_of(self.history)
        for place, params in enumerate(self.strategy.propose(self.number, self.history)):
            index = len(self.history) + place
            name = f"{self.name} {index}"
            self.asked[name] = index
            self.waiting.append(
                Arm(
                    name,
                    "scalarization",
                    self.options(params),
                    seed=self.seed,
                    steps=max(2, self.steps // 4) if self.number else self.steps,
                    split="val",
                    start_from=str(self._weights(best.index)) if best else "",
                    save=str(self._weights(index)),
                )
            )
            self.runs.append({"index": index, "round": self.number, "params": params})

    def _weights(self, index: int) -> Path:
        return self.folder / f"{self.name.replace(', ', '-')}-{index}.safetensors"

    def take(self, run: Mapping[str, Any]) -> None:
        """A result; the last one of a round begins the next."""
        entry = self.runs[self.asked[run["name"]]]
        entry |= {"val": run.get("metrics"), "test": run.get("test"), "steps": run.get("steps", 0)}
        entry["value"] = geometric_mean(run["metrics"]) if "metrics" in run else None
        if all("value" in one for one in self.runs):
            self.history = [Tried(one["index"], one["params"], one["value"]) for one in self.runs]
            self.number += 1
            if self.number <= self.rounds:
                self._begin()

    @property
    def best(self) -> dict[str, Any] | None:
        """The best configuration so far."""
        known = [run for run in self.runs if run.get("value") is not None]
        return max(known, key=lambda run: run["value"], default=None)

    @property
    def over(self) -> bool:
        """Whether all rounds are done."""
        return self.number > self.rounds

    def retrained(self, seeds: int, steps: int) -> list[Arm]:
        """Its best configuration, trained from the start."""
        best = self.best
        if best is None:
            return []
        options = self.options(best["params"])
        return [
            Arm(f"{self.name}: weights from the start", "scalarization", options, seed, steps)
            for seed in range(seeds)
        ]


def table(runs: Sequence[Mapping[str, Any]], searches: Sequence[Search]) -> str:
    """Markdown, the best on top."""
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for run in runs:
        if "failed" not in run:
            found[run["name"]].append(run["metrics"])
    for search in searches:
        if search.best is not None:
            found[f"{search.name}: the evolved model"].append(search.best["test"])
    lines = []
    for name, metrics in found.items():
        values = [geometric_mean(one) for one in metrics]
        spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
        parts = [f"{mean(one[task] for one in metrics):.3f}" for task in TASKS]
        lines.append((mean(values), [name, f"{mean(values):.3f}{spread}", *parts, str(len(values))]))
    rows = [row for _, row in sorted(lines, key=lambda line: -line[0])]
    head = ["strategy", "geometric mean", "anatomy (Dice)", "disease (balanced accuracy)", "seeds"]
    return markdown([head, *rows])


def main() -> None:
    options = parser(__doc__.splitlines()[0], minutes=4.0)
    options.add_argument("--parallel", type=int, default=8, help="processes side by side; 0 for none")
    options.add_argument("--steps", type=int, default=600)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument(
        "--rounds", type=int, default=4, help="rounds of children after the first population"
    )
    options.add_argument("--data", type=Path, default=Path(tempfile.gettempdir()) / "medmtl-papers")
    asked = options.parse_args()
    if asked.quick:
        asked.steps, asked.seeds, asked.rounds = 4, 1, 1
    clock = Clock(asked.minutes)
    written = Results("papers-leang", asked)
    settings = {"steps": asked.steps, "seeds": asked.seeds, "rounds": asked.rounds, "cases": CASES}
    written.update(settings=settings)
    data = phantoms(asked.data, 24 if asked.quick else sum(CASES.values()))
    sections, metrics = three_tasks()
    two = {task: sections[task] for task in TASKS}, {task: metrics[task] for task in TASKS}
    team = Team(study_of(two, data, asked.device, quick=asked.quick, acdc=False), asked.parallel)
    plain = deque(
        Arm(name, method, chosen, seed, asked.steps)
        for seed in range(asked.seeds)
        for name, method, chosen in STRATEGIES
    )
    with tempfile.TemporaryDirectory() as folder:
        searches = [
            Search(name, asynchronous, asked.steps, asked.rounds, Path(folder))
            for name, asynchronous in EVOLUTIONS.items()
        ]
        retrained: set[str] = set()
        runs: list[dict[str, Any]] = []

        def next_arm() -> Arm | None:
            for search in searches:
                if search.waiting:
                    return search.waiting.popleft()
                if search.over and search.name not in retrained:
                    retrained.add(search.name)
                    plain.extendleft(search.retrained(asked.seeds, asked.steps))
            return plain.popleft() if plain else None

        try:
            for run in team.run(next_arm, lambda: clock.over):
                search = next((one for one in searches if run["name"] in one.asked), None)
                if search is None:
                    runs.append(run)
                else:
                    search.take(run)
                text = table(runs, searches)
                evolved = {one.name: one.runs for one in searches}
                written.update(runs=runs, evolutions=evolved, table=text)
                print(f"{clock.seconds:5.0f} s  {run['name']}", flush=True)
        finally:
            team.close()
        print(f"\n{table(runs, searches)}\n\n{written.path}")


if __name__ == "__main__":
    main()
