"""What the patent of normalized task weights claims, on phantom hearts with 3 and 12 tasks, and on ACDC.

python benchmarks/papers/patent.py [--device cuda --parallel 8 --minutes 4] [--dataset ACDC] [--quick]
    # benchmarks/results/papers-patent.json (papers-patent-acdc.json with --dataset), tables on the terminal

1. Rescaling: one loss times 1000 changes nothing for UW-O, and much for methods that compare losses.
2. Inertia: learned uncertainty weights (UW) need their time to get where UW-SO's are from the first step, so
   they lose more when a training is short.
3. Temperature: delta-m of UW-SO over T.
4. Overfitting: how far the test losses rise again under UW and under UW-SO.
5. Delta-m against single-task networks, negative is better; the mean over tasks of the relative change.

Every arm is a short training of one small 3D network (see cardiac.py); several run side by side. The time
limit cuts seeds, not arms: all arms of the first seed come first.
"""

from __future__ import annotations

import math
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from cardiac import CASES, Arm, Study, Team, by_seeds, phantoms, study_of, three_tasks, twelve_tasks
from results import Clock, Results, markdown, parser

from medmtl.evaluation.comparison.delta import delta_m_percent

TEMPERATURES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
USUAL = 20.0
"""Temperature of UW-SO where it is not varied."""
FACTOR = 1000.0
MAIN: tuple[tuple[str, dict[str, Any]], ...] = (("ew", {}), ("uw-o", {}), ("uw", {}), ("balanced", {}))
Found = dict[str, list[dict[str, Any]]]


def uw_so(temperature: float) -> tuple[str, dict[str, Any]]:
    """Method and options."""
    return "uw-so", {"temperature": temperature}


def arms_of_three(steps: int) -> Callable[[int], list[Arm]]:
    """Everything on three tasks, of one seed."""

    def make(seed: int) -> list[Arm]:
        arms = [
            Arm(f"single {task}", seed=seed, steps=steps, tasks=(task,))
            for task in ("anatomy", "disease", "function")
        ]
        for method, options in (*MAIN, *(uw_so(t) for t in TEMPERATURES)):
            name = f"uw-so T={options['temperature']:g}" if method == "uw-so" else method
            curve = method in ("uw", "uw-o", "ew") or options == uw_so(USUAL)[1]
            arms.append(Arm(name, method, options, seed, steps, curve=curve))
            if method != "uw-so" or options == uw_so(USUAL)[1]:
                factors = {"anatomy": FACTOR}
                arms.append(Arm(f"{name}, anatomy x1000", method, options, seed, steps, factors=factors))
                arms.append(Arm(f"{name}, short", method, options, seed, max(2, steps // 4)))
        return arms

    return make


def arms_of_twelve(steps: int, tasks: Sequence[str]) -> Callable[[int], list[Arm]]:
    """Main methods, a few temperatures, and single networks of the first seed alone."""

    def make(seed: int) -> list[Arm]:
        arms = [Arm(f"single {task}", seed=seed, steps=steps, tasks=(task,)) for task in tasks if seed == 0]
        arms += [Arm(method, method, options, seed, steps) for method, options in MAIN]
        arms += [Arm(f"uw-so T={t:g}", *uw_so(t), seed, steps) for t in (5.0, 20.0, 100.0)]
        return arms

    return make


# -------------------------------------------------------------------------------------------------- analysis


def grouped(runs: Sequence[Mapping[str, Any]]) -> Found:
    """Finished runs by arm."""
    found: Found = defaultdict(list)
    for run in runs:
        if "failed" not in run:
            found[run["name"]].append(dict(run))
    return found


def singles(found: Found, metrics: Mapping[str, str]) -> dict[str, float]:
    """Mean over seeds of each single-task network's metric."""
    return {
        task: mean([run["metrics"][task] for run in found.get(f"single {task}", [])] or [math.nan])
        for task in metrics
    }


def delta(found: Found, name: str, metrics: Mapping[str, str]) -> str:
    """Delta-m in percent, mean and spread over seeds."""
    single = singles(found, metrics)
    values = [delta_m_percent(run["metrics"], single, metrics) for run in found.get(name, [])]
    if not values or math.isnan(values[0]):
        return ""
    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):+.1f}{spread}"


def plain_names(found: Found) -> list[str]:
    """Arms that are neither single, short nor rescaled."""
    return [name for name in found if "," not in name and not name.startswith("single")]


def rescaled_rows(found: Found, metrics: Mapping[str, str]) -> list[list[str]]:
    """Claim 1: the same training, and the greatest relative change of weight x loss and of any metric."""
    rows = [["method", "Δm", "Δm, one loss x1000", "metrics change by up to", "weighted losses by up to"]]
    for name in plain_names(found):
        other = {run["seed"]: run for run in found.get(f"{name}, anatomy x1000", [])}
        pairs = [(run, other[run["seed"]]) for run in found[name] if run["seed"] in other]
        if not pairs:
            continue
        change = max(
            abs(a["metrics"][task] - b["metrics"][task]) / max(abs(a["metrics"][task]), 1e-9)
            for a, b in pairs
            for task in metrics
        )
        shares = max(_share_change(a, b) for a, b in pairs)
        twin = f"{name}, anatomy x1000"
        cells = [delta(found, name, metrics), delta(found, twin, metrics), f"{change:.1%}", f"{shares:.0%}"]
        rows.append([name, *cells])
    return rows


def _share_change(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Greatest change of a task's share in the total, in the first sixtieth of the training."""

    def shares(run: Mapping[str, Any]) -> dict[str, float]:
        parts = {task: run["weights"][task][0] * run["losses"][task][0] for task in run["losses"]}
        total = sum(parts.values())
        return {task: part / total for task, part in parts.items()}

    a, b = shares(one), shares(other)
    return max(abs(a[task] - b[task]) for task in a)


def inertia_rows(found: Found, metrics: Mapping[str, str]) -> list[list[str]]:
    """Claim 2."""
    late_of = "steps at which UW is off its optimum (short / all)"
    rows = [["method", "Δm, a quarter of the steps", "Δm, all steps", late_of]]
    for name in plain_names(found):
        short = found.get(f"{name}, short")
        if not short:
            continue
        late = ""
        if name == "uw":
            a, b = (mean(run["lag"]["late"] for run in runs) for runs in (short, found[name]))
            late = f"{a:.0%} / {b:.0%}"
        cells = [delta(found, f"{name}, short", metrics), delta(found, name, metrics), late]
        rows.append([name, *cells])
    return rows


def temperature_rows(found: Found, metrics: Mapping[str, str]) -> list[list[str]]:
    """Claim 3, with the largest mean weight in the last sixtieth."""
    rows = [["T", "Δm", "largest weight", "of"]]
    for name in plain_names(found):
        if name.startswith("uw-so"):
            weights = found[name][0]["weights"]
            top = max(weights, key=lambda task: weights[task][-1])
            rows.append([name.partition("=")[2], delta(found, name, metrics), f"{weights[top][-1]:.2f}", top])
    return rows


def overfitting_rows(found: Found) -> list[list[str]]:
    """Claim 4: test loss at the end over its lowest, and over the training loss; geometric means."""
    rows = [["method", "test loss, end over lowest", "test over training loss, end"]]
    for name in plain_names(found):
        runs = [run for run in found[name] if run["curve"]]
        if not runs:
            continue
        rise, gap = [], []
        for run in runs:
            last = run["curve"][-1]
            for task, end in last["test"].items():
                rise.append(math.log(end / min(point["test"][task] for point in run["curve"])))
                gap.append(math.log(end / max(last["train"][task], 1e-9)))
        rows.append([name, f"{math.exp(mean(rise)):.2f}", f"{math.exp(mean(gap)):.2f}"])
    return rows


def main_rows(found: Found, metrics: Mapping[str, str]) -> list[list[str]]:
    """Delta-m, and every task's metric."""
    rows = [["method", "seeds", "Δm", *(f"{task} ({metric})" for task, metric in metrics.items())]]
    single = singles(found, metrics)
    rows.append(["single-task", "", "", *(f"{single[task]:.3g}" for task in metrics)])
    for name in plain_names(found):
        cells = [f"{mean(run['metrics'][task] for run in found[name]):.3g}" for task in metrics]
        rows.append([name, str(len(found[name])), delta(found, name, metrics), *cells])
    return rows


def tables(title: str, runs: Sequence[Mapping[str, Any]], metrics: Mapping[str, str]) -> str:
    """All that can be said of a study so far, as markdown."""
    found = grouped(runs)
    parts = {
        "methods": main_rows(found, metrics),
        "one loss times 1000": rescaled_rows(found, metrics),
        "a quarter of the steps": inertia_rows(found, metrics),
        "temperature of UW-SO": temperature_rows(found, metrics),
        "overfitting": overfitting_rows(found),
    }
    shown = {name: rows for name, rows in parts.items() if len(rows) > 1}
    return "\n\n".join(f"**{title}: {name}**\n\n{markdown(rows)}" for name, rows in shown.items())


def run_study(
    name: str, study: Study, arms: Sequence[Arm], clock: Clock, parallel: int, written: Results
) -> str:
    """Train the arms and write what there is after each."""
    team = Team(study, parallel)
    runs: list[dict[str, Any]] = []
    try:
        left = iter(arms)
        for run in team.run(lambda: next(left, None), lambda: clock.over):
            runs.append(run)
            text = tables(name, runs, study.metrics)
            written.update(**{name: {"metrics": dict(study.metrics), "runs": runs, "tables": text}})
            print(f"{clock.seconds:5.0f} s  {name}: {len(runs)} of {len(arms)}  {run['name']}", flush=True)
    finally:
        team.close()
    return tables(name, runs, study.metrics)


def main() -> None:
    options = parser(__doc__.splitlines()[0], minutes=4.0)
    options.add_argument("--parallel", type=int, default=8, help="processes side by side; 0 for none")
    options.add_argument("--steps", type=int, default=600)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--dataset", type=Path, default=None, help="a prepared ACDC dataset: three tasks")
    options.add_argument("--data", type=Path, default=Path(tempfile.gettempdir()) / "medmtl-papers")
    asked = options.parse_args()
    if asked.quick:
        asked.steps, asked.seeds = 4, 1
    acdc = asked.dataset is not None
    clock = Clock(asked.minutes)
    written = Results("papers-patent-acdc" if acdc else "papers-patent", asked)
    settings = {"steps": asked.steps, "seeds": asked.seeds, "parallel": asked.parallel, "cases": CASES}
    written.update(settings=settings)
    data = asked.dataset if acdc else phantoms(asked.data, 24 if asked.quick else sum(CASES.values()))
    print(f"{clock.seconds:5.0f} s  data: {data}", flush=True)
    how = {"quick": asked.quick, "acdc": acdc}
    three = study_of(three_tasks(), data, asked.device, **how)
    texts = [
        run_study(
            "three tasks",
            three,
            by_seeds(arms_of_three(asked.steps), asked.seeds),
            Clock(asked.minutes * (0.97 if acdc else 0.6)),
            asked.parallel,
            written,
        )
    ]
    if not acdc:
        twelve = study_of(twelve_tasks(), data, asked.device, **how)
        arms = by_seeds(arms_of_twelve(asked.steps, list(twelve.tasks)), asked.seeds)
        texts.append(run_study("twelve tasks", twelve, arms, clock, asked.parallel, written))
    print("\n\n".join(texts))
    print(f"\n{written.path}")


if __name__ == "__main__":
    main()
