"""Loss-based weightings beside each other on small problems, on a CPU.

python benchmarks/weighting_toys.py [PROBLEM ...]    # writes benchmarks/results/weighting-toys.json

Problems that are not named keep the results that the file has, if they were got with the same settings.

Problems: GradNorm's toy with 2 and 10 tasks, and mixes of classification and regression whose losses differ
in size by orders of magnitude, with label noise, few samples and missing labels. A 4-layer ReLU trunk of 100,
a linear head per task, Adam, half a cosine; the learning rate and a method's own parameter are chosen on
validation data of two seeds that are not reported.

Reported per method and problem, over the other seeds: each task's test risk over that of a predictor that has
learned nothing (squared error of the mean; error rate of the most frequent class), their mean, the worst, and
delta-m, the mean relative change of the risk against a network for that task alone (negative is better).
"""

from __future__ import annotations

import itertools
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from record import RESULTS, write_result
from torch import Tensor, nn

from medmtl.weighting import Weighting, build_weighting

PATH = RESULTS / "weighting-toys.json"
SEEDS = tuple(range(6))
TUNING_SEEDS = (100, 101)
RATES = (1e-3, 3e-3)
STEPS = 1000
BATCH = 32
TEMPERATURES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
UNSCORED = ("noise",)
"""Tasks that nobody can learn: they only disturb."""


@dataclass
class Target:
    """One task's labels of all samples of a seed."""

    kind: str  # "squared", "classes" or "binary"
    train: Tensor
    val: Tensor
    test: Tensor
    labelled: Tensor  # (N,) bool, of the training samples

    @property
    def outputs(self) -> int:
        return int(self.train.max()) + 1 if self.kind == "classes" else self.train.shape[1]


@dataclass
class Problem:
    """Inputs and targets of one seed."""

    train: Tensor
    val: Tensor
    test: Tensor
    targets: dict[str, Target] = field(default_factory=dict)


# --------------------------------------------------------------------------------------------------- problems


def gradnorm_toy(scales: Sequence[float]) -> Callable[[int], Problem]:
    """Chen et al., ICML 2018: sigma_i tanh((B + e_i) x), 250 inputs, 100 outputs, B 10, e 3.5.

    The paper leaves the scale of x open; 0.01 is that of public reproductions, where tanh is not yet flat.
    The network sees x times 100. The paper does not list the 10 sigmas; these, too, are those in use.
    """

    def make(seed: int) -> Problem:
        g = torch.Generator().manual_seed(seed)
        x = torch.randn(9000, 250, generator=g)
        shared = 10 * torch.randn(250, 100, generator=g)
        problem = Problem(x[:6000], x[6000:7000], x[7000:])
        for i, scale in enumerate(scales):
            y = scale * torch.tanh(0.01 * x @ (shared + 3.5 * torch.randn(250, 100, generator=g)))
            add(problem, f"sigma{scale:g}_{i}", "squared", y)
        return problem

    return make


def add(problem: Problem, name: str, kind: str, y: Tensor, labelled: Tensor | None = None) -> None:
    n, m = len(problem.train), len(problem.val)
    seen = torch.ones(n, dtype=torch.bool) if labelled is None else labelled
    problem.targets[name] = Target(kind, y[:n], y[n : n + m], y[n + m :], seen)


def cohort(n_train: int, seed: int) -> tuple[Problem, Tensor, torch.Generator]:
    """Inputs and what they share: 16 hidden causes of 30 inputs."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n_train + 3000, 30, generator=g)
    hidden = torch.tanh(x @ torch.randn(30, 16, generator=g) / 4)
    return Problem(x[:n_train], x[n_train : n_train + 1000], x[n_train + 1000 :]), hidden, g


def values(hidden: Tensor, n: int, noise: float, scale: float, g: torch.Generator) -> Tensor:
    """``n`` values of unit variance times ``scale``; ``noise`` is the part of the variance that is noise."""
    clean = torch.sin(hidden @ torch.randn(16, n, generator=g) / 2)
    clean = (clean - clean.mean(0)) / clean.std(0)
    blur = torch.randn(clean.shape, generator=g)
    return scale * (math.sqrt(1 - noise) * clean + math.sqrt(noise) * blur)


def classes(hidden: Tensor, n: int, wrong: float, g: torch.Generator) -> Tensor:
    """``n`` classes, a part ``wrong`` of the labels drawn at random."""
    label = (hidden @ torch.randn(16, n, generator=g)).argmax(1)
    drawn = torch.randint(n, label.shape, generator=g)
    return torch.where(torch.rand(len(label), generator=g) < wrong, drawn, label)


def outlines(hidden: Tensor, n: int, wrong: float, g: torch.Generator) -> Tensor:
    """``n`` binary outputs."""
    bits = (hidden @ torch.randn(16, n, generator=g) > 0).float()
    flip = (torch.rand(bits.shape, generator=g) < wrong).float()
    return (bits - flip).abs()


def three(seed: int) -> Problem:
    """As on ACDC: 20 binary outputs, 5 classes, and values whose squared error starts at 0.02."""
    problem, hidden, g = cohort(2000, seed)
    add(problem, "outline", "binary", outlines(hidden, 20, 0.05, g))
    add(problem, "disease", "classes", classes(hidden, 5, 0.1, g))
    add(problem, "function", "squared", values(hidden, 3, 0.05, 0.14, g))
    return problem


def unlike(seed: int) -> Problem:
    """One task is learned to nothing, one is mostly noise, one only noise, and two are to be learned."""
    problem, hidden, g = cohort(2000, seed)
    add(problem, "disease", "classes", classes(hidden, 5, 0.1, g))
    add(problem, "easy", "squared", hidden[:, :2].clone())
    add(problem, "noisy", "squared", values(hidden, 3, 0.7, 3.0, g))
    add(problem, "noise", "squared", torch.randn(len(hidden), 1, generator=g))
    add(problem, "function", "squared", values(hidden, 3, 0.05, 0.14, g))
    return problem


def twelve(seed: int) -> Problem:
    """4 outlines, 4 classifications, 4 values in units from 0.01 to 100; labels get rarer with each task."""
    problem, hidden, g = cohort(2000, seed)
    for i in range(4):
        for kind in ("outline", "disease", "function"):
            rare = 0.9 ** (3 * i + ("outline", "disease", "function").index(kind)) - 0.25
            labelled = torch.rand(len(problem.train), generator=g) < rare
            if kind == "outline":
                y = outlines(hidden, 10, 0.05, g)
            elif kind == "disease":
                y = classes(hidden, 3 + i, 0.1, g)
            else:
                y = values(hidden, 2, 0.1, (0.01, 100.0, 1.0, 0.1)[i], g)
            shape = {"outline": "binary", "disease": "classes", "function": "squared"}[kind]
            add(problem, f"{kind}{i}", shape, y, labelled)
    return problem


PROBLEMS: dict[str, Callable[[int], Problem]] = {
    "gradnorm-2": gradnorm_toy((1, 100)),
    "gradnorm-10": gradnorm_toy((1, 50, 30, 70, 20, 80, 10, 40, 60, 90)),
    "three": three,
    "unlike": unlike,
    "twelve": twelve,
}


# --------------------------------------------------------------------------------------------------- networks


class Networks(nn.Module):
    """One network per seed, side by side: every parameter is ``(S, ...)``, so that Adam keeps them apart."""

    def __init__(self, n_inputs: int, heads: Mapping[str, int], seeds: Sequence[int]) -> None:
        super().__init__()
        widths = [n_inputs, 100, 100, 100, 100]
        drawn = [torch.Generator().manual_seed(1000 + seed) for seed in seeds]

        def layer(inputs: int, outputs: int, gain: float) -> nn.ParameterList:
            weights = [gain / math.sqrt(inputs) * torch.randn(inputs, outputs, generator=g) for g in drawn]
            zeros = torch.zeros(len(seeds), 1, outputs)
            return nn.ParameterList([nn.Parameter(torch.stack(weights)), nn.Parameter(zeros)])

        self.trunk = nn.ModuleList(layer(a, b, math.sqrt(2)) for a, b in itertools.pairwise(widths))
        self.heads = nn.ModuleDict({name: layer(100, n, 0.1) for name, n in heads.items()})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """``{task: (S, B, outputs)}`` from ``(S, B, inputs)``."""
        for weight, bias in self.trunk:
            x = torch.relu(torch.baddbmm(bias, x, weight))
        return {name: torch.baddbmm(bias, x, weight) for name, (weight, bias) in self.heads.items()}


def sample_losses(kind: str, output: Tensor, target: Tensor) -> Tensor:
    """``(S, B)`` loss of every sample."""
    if kind == "squared":
        return (output - target).square().mean(-1)
    if kind == "binary":
        return nn.functional.binary_cross_entropy_with_logits(output, target, reduction="none").mean(-1)
    return nn.functional.cross_entropy(output.movedim(-1, 1), target, reduction="none")


def risk(kind: str, output: Tensor, target: Tensor) -> float:
    """Test error over that of a predictor that has learned nothing."""
    if kind == "squared":
        return float((output - target).square().mean() / (target - target.mean(0)).square().mean())
    if kind == "binary":
        wrong = ((output > 0).float() != target).float().mean()
        return float(wrong / torch.minimum(target.mean(0), 1 - target.mean(0)).mean())
    wrong = (output.argmax(-1) != target).float().mean()
    return float(wrong / (1 - target.bincount().max() / len(target)))


# --------------------------------------------------------------------------------------------------- training

Build = Callable[[tuple[str, ...]], Weighting]


def train(problems: Sequence[Problem], seeds: Sequence[int], build: Build, rate: float) -> Networks:
    """One network and one weighting per seed."""
    tasks = tuple(problems[0].targets)
    heads = {task: max(problem.targets[task].outputs for problem in problems) for task in tasks}
    networks = Networks(problems[0].train.shape[1], heads, seeds)
    weightings = [build(tasks) for _ in seeds]
    learned = [group for weighting in weightings for group in weighting.parameter_groups()]
    optimizer = torch.optim.Adam([{"params": list(networks.parameters())}, *learned], lr=rate)
    x = torch.stack([problem.train for problem in problems])
    y = {t: torch.stack([problem.targets[t].train for problem in problems]) for t in tasks}
    seen = {t: torch.stack([problem.targets[t].labelled for problem in problems]) for t in tasks}
    draws = [torch.Generator().manual_seed(2000 + seed) for seed in seeds]
    row = torch.arange(len(seeds))[:, None]
    per_epoch = x.shape[1] // BATCH
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        index = torch.stack([torch.randint(x.shape[1], (BATCH,), generator=g) for g in draws])
        outputs = networks(x[row, index])
        losses, counts = {}, {}
        for t in tasks:
            labelled = seen[t][row, index].float()
            each = sample_losses(problems[0].targets[t].kind, outputs[t], y[t][row, index])
            losses[t] = ((each * labelled).sum(1) / labelled.sum(1).clamp_min(1)).unbind()
            counts[t] = labelled.sum(1).tolist()
        present = [{t: losses[t][s] for t in tasks if counts[t][s]} for s in range(len(seeds))]
        totals = [weighting(found) for weighting, found in zip(weightings, present, strict=True) if found]
        if totals:  # a rare task alone may have no label in the batches of all seeds
            optimizer.zero_grad(set_to_none=True)
            torch.stack(totals).sum().backward()
            optimizer.step()
        if (step + 1) % per_epoch == 0:
            for weighting in weightings:
                weighting.end_epoch()
    return networks


@torch.no_grad()
def risks(networks: Networks, problems: Sequence[Problem], split: str) -> list[dict[str, float]]:
    """Risk of each task, per seed."""
    outputs = networks(torch.stack([getattr(problem, split) for problem in problems]))
    return [
        {
            t: risk(v.kind, outputs[t][s], getattr(v, split))
            for t, v in problem.targets.items()
            if t not in UNSCORED
        }
        for s, problem in enumerate(problems)
    ]


# ---------------------------------------------------------------------------------------------------- methods


def trivial(problem: Problem) -> dict[str, float]:
    """Loss of a predictor that has learned nothing, on the labelled training samples."""
    found = {}
    for name, target in problem.targets.items():
        y = target.train[target.labelled]
        if target.kind == "squared":
            found[name] = float((y - y.mean(0)).square().mean())
        elif target.kind == "binary":
            p = y.mean(0).clamp(1e-3, 1 - 1e-3)
            found[name] = float(-(p * p.log() + (1 - p) * (1 - p).log()).mean())
        else:
            found[name] = float(torch.special.entr(y.bincount() / len(y)).sum())
    return found


def criteria(problem: Problem) -> dict[str, str]:
    return {t: "l2" if v.kind == "squared" else "cross-entropy" for t, v in problem.targets.items()}


def methods(problem: Problem) -> dict[str, list[dict[str, Any]]]:
    """Candidates of every method, the best of which (on validation data) is reported."""
    k = len(problem.targets)
    at = {"normalize_losses": "trivial", "trivial_losses": trivial(problem)}
    return {
        "ew": [{"type": "ew"}],
        "ew, trivial loss": [{"type": "normalized", "raw": "constant", "normalizer": "none", **at}],
        "uw": [{"type": "uw", "criteria": criteria(problem)}],
        "uw-revised": [{"type": "uw-revised"}],
        "uw-o": [{"type": "uw-o"}],
        "uw-so, T tuned": [{"type": "uw-so", "temperature": t} for t in TEMPERATURES],
        "uw-so, T tuned, trivial loss": [{"type": "uw-so", "temperature": t, **at} for t in TEMPERATURES],
        "uw-so, effective": [{"type": "uw-so", "effective_tasks": 0.8 * k}],
        "uw-so, effective, trivial loss": [{"type": "uw-so", "effective_tasks": 0.8 * k, **at}],
        "dwa": [{"type": "dwa"}],
        "gls": [{"type": "gls"}],
        "imtl-l": [{"type": "imtl-l"}],
        "rlw": [{"type": "rlw"}],
        "handcrafted": [{"type": "handcrafted", "reference": next(iter(problem.targets))}],
        "dynamic-scaling": [{"type": "dynamic-scaling", "reference": next(iter(problem.targets))}],
        "weight-learning": [{"type": "weight-learning"}],
        "balanced": [{"type": "balanced"}],
        "balanced, power 0": [{"type": "balanced", "power": 0.0}],
        "balanced, power 1": [{"type": "balanced", "power": 1.0}],
        "balanced, power 1, unbounded": [
            {"type": "balanced", "power": 1.0, "floor": 0.0, "effective_share": 0.01}
        ],
    }


def builder(options: Mapping[str, Any]) -> Build:
    rest = {key: value for key, value in options.items() if key != "type"}
    return lambda tasks: build_weighting(str(options["type"]), tasks, **rest)


def mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)


def spread(numbers: Sequence[float]) -> float:
    middle = mean(numbers)
    return math.sqrt(sum((n - middle) ** 2 for n in numbers) / (len(numbers) - 1))


def alone(problem: Problem, task: str) -> Problem:
    return Problem(problem.train, problem.val, problem.test, {task: problem.targets[task]})


def single_task(make: Callable[[int], Problem]) -> list[dict[str, float]]:
    """Test risks of a network per task, its learning rate chosen like everybody's."""
    tuning, final = [make(seed) for seed in TUNING_SEEDS], [make(seed) for seed in SEEDS]
    plain = builder({"type": "ew"})
    found: list[dict[str, float]] = [{} for _ in SEEDS]
    for task in final[0].targets:
        if task in UNSCORED:
            continue
        one, judged = [alone(p, task) for p in tuning], [alone(p, task) for p in final]
        score = {}
        for rate in RATES:
            tried = risks(train(one, TUNING_SEEDS, plain, rate), one, "val")
            score[rate] = mean([r[task] for r in tried])
        networks = train(judged, SEEDS, plain, min(score, key=score.__getitem__))
        for result, got in zip(found, risks(networks, judged, "test"), strict=True):
            result.update(got)
    return found


def study(make: Callable[[int], Problem]) -> dict[str, Any]:
    """Every method on one problem."""
    single = single_task(make)
    tuning, final = [make(seed) for seed in TUNING_SEEDS], [make(seed) for seed in SEEDS]
    results: dict[str, Any] = {
        "single task": {"risks": {t: round(mean([s[t] for s in single]), 4) for t in single[0]}}
    }
    for name, candidates in methods(tuning[0]).items():
        began = time.perf_counter()
        tried = []
        for options, rate in itertools.product(candidates, RATES):
            found = risks(train(tuning, TUNING_SEEDS, builder(options), rate), tuning, "val")
            tried.append((mean([mean(list(r.values())) for r in found]), rate, options))
        _, rate, options = min(tried, key=lambda t: t[0] if math.isfinite(t[0]) else math.inf)
        found = risks(train(final, SEEDS, builder(options), rate), final, "test")
        means = [mean(list(r.values())) for r in found]
        change = [mean([100 * (r[t] / s[t] - 1) for t in r]) for r, s in zip(found, single, strict=True)]
        results[name] = {
            "mean risk": round(mean(means), 4),
            "sd over seeds": round(spread(means), 4),
            "worst task's risk": round(mean([max(r.values()) for r in found]), 4),
            "delta_m_percent": round(mean(change), 2),
            "delta_m_percent sd": round(spread(change), 2),
            "risks": {t: round(mean([r[t] for r in found]), 4) for t in found[0]},
            "means of the seeds": [round(m, 4) for m in means],
            "learning rate": rate,
            "options": {k: v for k, v in options.items() if k not in ("trivial_losses", "criteria")},
            "seconds": round(time.perf_counter() - began, 1),
        }
        print(f"  {name:32s}", {k: v for k, v in results[name].items() if "seeds" not in k}, flush=True)
    return results


def main() -> None:
    torch.set_num_threads(1)
    names = sys.argv[1:] or list(PROBLEMS)
    settings: dict[str, Any] = {
        "steps": STEPS, "batch": BATCH, "seeds": len(SEEDS), "tuning seeds": len(TUNING_SEEDS),
        "learning rates tried": list(RATES), "temperatures tried": list(TEMPERATURES), "threads": 1,
    }  # fmt: skip
    for name in names:
        print(name, flush=True)
        found = study(PROBLEMS[name])
        kept = json.loads(PATH.read_text()) if PATH.is_file() else {"settings": None}
        before = kept["problems"] if kept["settings"] == settings else {}
        measured = {p: {**before, name: found}[p] for p in PROBLEMS if p in before or p == name}
        command = "python benchmarks/weighting_toys.py"
        print(write_result(PATH.stem, command, {"settings": settings, "problems": measured}), flush=True)


if __name__ == "__main__":
    main()
