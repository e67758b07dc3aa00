"""Loss-based weightings beside each other on small problems, all of them trained side by side.

python benchmarks/weighting_toys.py [PROBLEM ...] [--device cuda]    # -> results/weighting-toys.json

Problems that are not named keep the results that the file has, if they were got with the same settings.

Problems: GradNorm's toy with 2 and 10 tasks, and mixes of classification and regression whose losses
differ in size by orders of magnitude, with label noise, few samples and missing labels. A 4-layer ReLU
trunk of 100, a linear head per task, Adam, half a cosine; the learning rate and a method's own parameter
are chosen on validation data of two seeds that are not reported.

Reported per method and problem, over the other seeds: each task's test risk over that of a predictor
that has learned nothing (squared error of the mean; error rate of the most frequent class), their mean,
the worst, and delta-m, the mean relative change of the risk against a network for that task alone
(negative is better).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent / "papers"))

import results
import torch
from side_by_side import SideBySide, builder
from torch import Tensor
from toy_problems import PROBLEMS, UNSCORED, Problem, risk, sample_losses, trivial

SEEDS, TUNING_SEEDS = 6, 2
RATES = (1e-3, 3e-3)
STEPS, BATCH, WIDTH = 1000, 32, 100
TEMPERATURES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
Arm = tuple[str, Any]


def arms_of(problem: Problem) -> list[Arm]:
    """Every method's candidates, ``(method, options)``; a single task's options are its fixed weights."""
    tasks = list(problem.targets)
    at = {"normalize_losses": "trivial", "trivial_losses": trivial(problem)}
    criteria = {t: "l2" if v.kind == "squared" else "cross-entropy" for t, v in problem.targets.items()}
    share = {"type": "uw-so", "effective_tasks": 0.8 * len(tasks)}
    reference = {"reference": tasks[0]}
    single = [(f"single: {t}", [float(t == u) for u in tasks]) for t in tasks if t not in UNSCORED]
    tuned = [("uw-so, T tuned", {"type": "uw-so", "temperature": t}) for t in TEMPERATURES]
    return [
        *single,
        ("ew", {"type": "ew"}),
        ("ew, trivial loss", {"type": "normalized", "raw": "constant", "normalizer": "none", **at}),
        ("uw", {"type": "uw", "criteria": criteria}),
        ("uw-revised", {"type": "uw-revised"}),
        ("uw-o", {"type": "uw-o"}),
        *tuned,
        *((f"{name}, trivial loss", {**options, **at}) for name, options in tuned),
        ("uw-so, effective", share),
        ("uw-so, effective, trivial loss", {**share, **at}),
        ("dwa", {"type": "dwa"}),
        ("gls", {"type": "gls"}),
        ("imtl-l", {"type": "imtl-l"}),
        ("rlw", {"type": "rlw"}),
        ("handcrafted", {"type": "handcrafted", **reference}),
        ("dynamic-scaling", {"type": "dynamic-scaling", **reference}),
        ("weight-learning", {"type": "weight-learning"}),
        ("balanced", {"type": "balanced"}),
        ("balanced, power 0", {"type": "balanced", "power": 0.0}),
        ("balanced, power 1", {"type": "balanced", "power": 1.0}),
        (
            "balanced, power 1, unbounded",
            {"type": "balanced", "power": 1.0, "floor": 0.0, "effective_share": 0.01},
        ),
    ]


class Adam:
    """Adam for parameters ``(M, ...)``, a learning rate for each row; rows may sit out a step."""

    def __init__(self, parameters: Mapping[str, Tensor], rates: Mapping[str, Tensor]) -> None:
        self.parameters, self.rates = parameters, rates
        self.mean = {n: torch.zeros_like(p) for n, p in parameters.items()}
        self.square = {n: torch.zeros_like(p) for n, p in parameters.items()}
        self.steps = {n: torch.zeros_like(rates[n]) for n in parameters}

    @torch.no_grad()
    def step(self, found: Mapping[str, Tensor], share: float, part: Mapping[str, Tensor]) -> None:
        """``part[name]``, where given, marks the rows ``(M,)`` that take part."""
        for name, parameter in self.parameters.items():
            shape = [-1] + [1] * (parameter.ndim - 1)
            takes = part[name] if name in part else torch.ones_like(self.steps[name], dtype=torch.bool)
            self.steps[name] += takes
            here, steps = takes.view(shape), self.steps[name].clamp_min(1).view(shape)
            mean, square, gradient = self.mean[name], self.square[name], found[name]
            mean.copy_(torch.where(here, torch.lerp(mean, gradient, 0.1), mean))
            square.copy_(torch.where(here, torch.lerp(square, gradient * gradient, 0.001), square))
            root = (square / (1 - 0.999**steps)).sqrt() + 1e-8
            change = self.rates[name].view(shape) * share * mean / (1 - 0.9**steps) / root
            parameter -= torch.where(here, change, 0.0)


class Trainings:
    """All arms on all slots (rate, seed) of one problem, a network for each."""

    def __init__(self, problems: list[Problem], arms: list[Arm], device: torch.device) -> None:
        self.first, self.arms, self.device = problems[0], arms, device
        self.tasks = list(self.first.targets)
        self.seeds, self.slots = len(problems), len(problems) * len(RATES)
        self.x = torch.stack([p.train for p in problems]).to(device)
        self.y = {t: torch.stack([p.targets[t].train for p in problems]).to(device) for t in self.tasks}
        self.seen = torch.stack(
            [torch.stack([p.targets[t].labelled for t in self.tasks], -1) for p in problems]
        ).to(device)
        self.outputs = {
            t: max(int(p.targets[t].train.max()) + 1 for p in problems)
            if v.kind == "classes"
            else v.train.shape[1]
            for t, v in self.first.targets.items()
        }
        slot_rates = torch.tensor(RATES, device=device).repeat_interleave(self.seeds)
        self.rules: list[SideBySide | Tensor] = [
            torch.tensor(options, device=device).expand(self.slots, -1)
            if isinstance(options, list)
            else SideBySide(builder(self.tasks, **options), self.slots, device)
            for _, options in arms
        ]
        self.nets = self._networks()
        self.learned = {
            f"{a}/{name}": values
            for a, rule in enumerate(self.rules)
            if isinstance(rule, SideBySide)
            for name, values in rule.learned.items()
        }
        rates = dict.fromkeys(self.nets, slot_rates.repeat_interleave(len(arms)))
        rates |= dict.fromkeys(self.learned, slot_rates)
        self.optimizer = Adam({**self.nets, **self.learned}, rates)

    def _networks(self) -> dict[str, Tensor]:
        widths = [self.x.shape[2], *[WIDTH] * 4, sum(self.outputs.values())]
        drawn = [torch.Generator().manual_seed(1000 + seed) for seed in range(self.seeds)] * len(RATES)
        drawn = [torch.Generator().manual_seed(g.initial_seed()) for g in drawn]
        made = {}
        for layer in range(5):
            a, b = widths[layer], widths[layer + 1]
            gain = math.sqrt(2 / a) if layer < 4 else 0.1 / math.sqrt(a)
            weight = torch.stack([gain * torch.randn(a, b, generator=g) for g in drawn]).to(self.device)
            weight = weight[:, None].expand(-1, len(self.arms), -1, -1).flatten(0, 1).clone()
            made[f"weight{layer}"] = weight.requires_grad_()
            made[f"bias{layer}"] = torch.zeros(len(weight), 1, b, device=self.device, requires_grad=True)
        return made

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """``{task: (slots, arms, B, outputs)}`` from ``(seeds, B, inputs)``."""
        x = x.repeat(len(RATES), 1, 1)[:, None].expand(-1, len(self.arms), -1, -1).flatten(0, 1)
        for layer in range(5):
            x = torch.baddbmm(self.nets[f"bias{layer}"], x, self.nets[f"weight{layer}"])
            x = torch.relu(x) if layer < 4 else x
        whole = x.unflatten(0, (self.slots, -1))
        return dict(zip(self.tasks, whole.split(list(self.outputs.values()), dim=-1), strict=True))

    def losses(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """``(slots, arms, K)`` on samples ``(seeds, B)``, and ``(slots, K)``: whether any has a label."""
        row = torch.arange(self.seeds, device=self.device)[:, None]
        seen = self.seen[row, index].float().repeat(len(RATES), 1, 1)  # (slots, B, K)
        found = []
        for k, (task, out) in enumerate(self.forward(self.x[row, index]).items()):
            y = torch.cat([self.y[task][row, index]] * len(RATES))
            each = sample_losses(self.first.targets[task].kind, out, y)
            counts = seen[:, None, :, k].sum(-1)
            found.append((each * seen[:, None, :, k]).sum(-1) / counts.clamp_min(1))
        return torch.stack(found, -1), seen.sum(1) > 0

    def step(self, share: float) -> None:
        """One step of all trainings."""
        index = torch.randint(self.x.shape[1], (self.seeds, BATCH), device=self.device)
        losses, present = self.losses(index)
        seen = torch.where(present[:, None], losses.detach(), torch.nan)
        total = losses.new_zeros(())
        weights = []
        for a, rule in enumerate(self.rules):
            if isinstance(rule, Tensor):
                weights.append(rule)
            else:
                found, penalty = rule(seen[:, a])
                weights.append(found)
                total = total + penalty.sum()
        total = total + torch.where(present[:, None], torch.stack(weights, 1) * losses, 0.0).sum()
        names = list(self.optimizer.parameters)
        gradients = torch.autograd.grad(total, list(self.optimizer.parameters.values()))
        part = {name: present[:, int(name.rsplit(".", 1)[1])] for name in self.learned if len(self.tasks) > 2}
        self.optimizer.step(dict(zip(names, gradients, strict=True)), share, part)

    def end_epoch(self) -> None:
        ended = torch.ones(self.slots, dtype=torch.bool, device=self.device)
        for rule in self.rules:
            if isinstance(rule, SideBySide):
                rule.end_epoch(ended)

    @torch.no_grad()
    def risks(self, problems: list[Problem], split: str) -> Tensor:
        """``(rates, seeds, arms, K)``."""
        out = self.forward(torch.stack([getattr(p, split) for p in problems]).to(self.device))
        found = torch.empty(len(RATES), self.seeds, len(self.arms), len(self.tasks))
        for k, task in enumerate(self.tasks):
            by_rate = out[task].unflatten(0, (len(RATES), self.seeds))
            for s, problem in enumerate(problems):
                target = problem.targets[task]
                y = getattr(target, split).to(self.device)
                found[:, s, :, k] = risk(target.kind, by_rate[:, s], y).cpu()
        return found


def study(
    make: Callable[[int], Problem], device: torch.device, steps: int, seeds: int = SEEDS
) -> dict[str, Any]:
    """Every method on one problem; the last two seeds choose, the others are reported."""
    problems = [make(seed) for seed in (*range(seeds), *range(100, 100 + TUNING_SEEDS))]
    arms = arms_of(problems[-1])
    trainings = Trainings(problems, arms, device)
    for step in range(steps):
        trainings.step(0.5 * (1 + math.cos(math.pi * step / steps)))
        if (step + 1) % (trainings.x.shape[1] // BATCH) == 0:
            trainings.end_epoch()
    val, test = trainings.risks(problems, "val")[:, seeds:], trainings.risks(problems, "test")[:, :seeds]
    scored = [k for k, task in enumerate(trainings.tasks) if task not in UNSCORED]
    names = [trainings.tasks[k] for k in scored]
    alone = torch.empty(seeds, len(scored))
    results_: dict[str, Any] = {}
    for name in dict.fromkeys(name for name, _ in arms):
        tasks = [names.index(name.removeprefix("single: "))] if name.startswith("single") else None
        of = [scored[k] for k in tasks] if tasks else scored
        candidates = [a for a, (other, _) in enumerate(arms) if other == name]
        judged = {
            (a, r): float(val[r, :, a][:, of].mean().nan_to_num(torch.inf))
            for a in candidates
            for r in range(len(RATES))
        }
        a, r = min(judged, key=judged.__getitem__)
        found = test[r, :, a][:, of]
        if tasks:
            alone[:, tasks[0]] = found[:, 0]
            continue
        results_[name] = entry_of(found, alone, names, RATES[r], arms[a][1])
    means = alone.mean(0).tolist()
    return {"single task": {"risks": dict(zip(names, means, strict=True))}, **results_}


def entry_of(found: Tensor, alone: Tensor, names: list[str], rate: float, options: Any) -> dict[str, Any]:
    means = results.mean_sd(found.mean(1).tolist())
    change = results.mean_sd((100 * (found / alone - 1).mean(1)).tolist())
    return {
        "mean risk": means["mean"],
        "sd over seeds": means["sd"],
        "worst task's risk": float(found.max(1).values.mean()),
        "delta_m_percent": change["mean"],
        "delta_m_percent sd": change["sd"],
        "risks": dict(zip(names, found.mean(0).tolist(), strict=True)),
        "means of the seeds": found.mean(1).tolist(),
        "learning rate": rate,
        "options": {k: v for k, v in options.items() if k not in ("trivial_losses", "criteria")},
    }


def main() -> None:
    options = results.parser(__doc__ or "", minutes=10)
    options.add_argument("problems", nargs="*", metavar="PROBLEM", help=f"of {', '.join(PROBLEMS)}")
    arguments: argparse.Namespace = options.parse_args()
    if unknown := set(arguments.problems) - set(PROBLEMS):
        options.error(f"unknown problem {sorted(unknown)}; choose from {', '.join(PROBLEMS)}")
    torch.manual_seed(0)
    clock, out = results.Clock(arguments.minutes), results.Results("weighting-toys", arguments)
    steps, seeds = (3, 1) if arguments.quick else (STEPS, SEEDS)
    settings: dict[str, Any] = {
        "steps": steps, "batch": BATCH, "seeds": seeds, "tuning seeds": TUNING_SEEDS,
        "learning rates tried": list(RATES), "temperatures tried": list(TEMPERATURES),
    }  # fmt: skip
    kept = json.loads(out.path.read_text()) if out.path.is_file() else {}
    known = kept.get("problems", {}) if kept.get("settings") == settings else {}
    for name in arguments.problems or PROBLEMS:
        if clock.over:
            break
        known[name] = study(PROBLEMS[name], torch.device(arguments.device), steps, seeds)
        out.update(settings=settings, problems={p: known[p] for p in PROBLEMS if p in known})
        print(f"{name}, {clock.seconds:.0f} s", flush=True)
        for method, entry in known[name].items():
            print(f"  {method:32s}", {k: v for k, v in results.rounded(entry).items() if "seeds" not in k})
    print(out.path)


if __name__ == "__main__":
    main()
