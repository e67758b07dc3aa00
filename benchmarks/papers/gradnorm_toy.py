"""Chen et al., "GradNorm: gradient normalization for adaptive loss balancing in deep multitask networks",
ICML 2018, section 4: the toy of 2 and of 10 tasks that differ in nothing but their scale.

python benchmarks/papers/gradnorm_toy.py [--minutes 2]    # -> results/papers-gradnorm-toy.json

y_i = sigma_i tanh((B + e_i) x), 250 inputs, 100 outputs, B with standard deviation 10, e_i with 3.5, a
ReLU trunk of four layers of 100 and a linear layer per task, alpha .12. Samples are drawn anew for every
batch, so that nothing can be learned by heart. The paper leaves open the scale of x (.01 here, as in
public reproductions: tanh is not yet flat), the 10 sigmas (those of public reproductions) and the
optimizer (Adam and half a cosine here). Every arm trains with two learning rates; the one with the lower
risk on other samples is reported.

Risk: squared error over the variance of the targets, 1 for the mean; at the start it is 1 for every
task, so that it is the paper's task-normalized loss L_i(t) / L_i(0). Reported on fresh samples, over the
seeds.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import results
import torch
from mlps import MLPs
from teams import GradientArms, LossArms
from torch import Tensor

INPUTS, OUTPUTS, BATCH, STEPS = 250, 100, 128, 10_000
RATES = (1e-3, 3e-3)
SIGMAS = {"2 tasks": (1.0, 100.0), "10 tasks": (1.0, 50.0, 30.0, 70.0, 20.0, 80.0, 10.0, 40.0, 60.0, 90.0)}
ALPHAS = (0.0, 0.12, 0.5, 1.0, 1.5, 3.0)
SHOWN = 24
"""Times at which weights and risks are noted."""


def loss_arms(tasks: list[str]) -> dict[str, Any]:
    count = len(tasks)
    single = {f"single: {task}": [float(task == other) for other in tasks] for task in tasks}
    return single | {
        "ew": {"type": "ew"},
        "uw": {"type": "uw", "criteria": dict.fromkeys(tasks, "l2")},
        "uw-revised": {"type": "uw-revised"},
        "uw-o": {"type": "uw-o"},
        **{f"uw-so, T {t:g}": {"type": "uw-so", "temperature": t} for t in (0.1, 1.0, 10.0)},
        "uw-so, effective": {"type": "uw-so", "effective_tasks": 0.8 * count},
        "balanced": {"type": "balanced"},
        "balanced, power 0": {"type": "balanced", "power": 0.0},
        "balanced, power 1": {"type": "balanced", "power": 1.0},
        "dwa": {"type": "dwa"},
        "rlw": {"type": "rlw"},
        "gls": {"type": "gls"},
        "imtl-l": {"type": "imtl-l"},
        "handcrafted": {"type": "handcrafted", "reference": tasks[0]},
    }


def gradient_arms() -> dict[str, Any]:
    norm = {f"gradnorm, alpha {alpha:g}": {"type": "gradnorm", "alpha": alpha} for alpha in ALPHAS}
    others = ("mgda", "pcgrad", "cagrad", "imtl-g", "aligned-mtl", "nash-mtl")
    return norm | {name: {"type": name} for name in others}


class Functions:
    """The tasks of every seed."""

    def __init__(self, sigmas: tuple[float, ...], seeds: list[int], device: torch.device) -> None:
        made = []
        for seed in seeds:
            g = torch.Generator().manual_seed(seed)
            shared = 10 * torch.randn(INPUTS, 1, OUTPUTS, generator=g)
            made.append(shared + 3.5 * torch.randn(INPUTS, len(sigmas), OUTPUTS, generator=g))
        self.matrix = torch.stack(made).flatten(2).to(device)
        self.scale = torch.tensor(sigmas, device=device)[:, None]

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Samples ``(seeds, count, 250)`` and targets ``(seeds, count, K, 100)``."""
        x = torch.randn(len(self.matrix), count, INPUTS, device=self.matrix.device)
        y = torch.tanh(0.01 * x @ self.matrix).unflatten(2, (-1, OUTPUTS))
        return x, y * self.scale


class Adam:
    """Adam with a learning rate per slot: every parameter has ``slots`` or ``slots * arms`` rows."""

    def __init__(self, parameters: list[Tensor], rates: Tensor) -> None:
        self.parameters, self.steps = parameters, 0
        self.rates = [
            rates.repeat_interleave(len(p) // len(rates)).view(-1, *[1] * (p.ndim - 1)) for p in parameters
        ]
        self.mean = [torch.zeros_like(p) for p in parameters]
        self.square = [torch.zeros_like(p) for p in parameters]

    @torch.no_grad()
    def step(self, found: list[Tensor], share: float) -> None:
        """A step of ``share`` of the learning rates."""
        self.steps += 1
        torch._foreach_lerp_(self.mean, found, 0.1)
        torch._foreach_mul_(self.square, 0.999)
        torch._foreach_addcmul_(self.square, found, found, 0.001)
        root = torch._foreach_sqrt(self.square)
        torch._foreach_div_(root, (1 - 0.999**self.steps) ** 0.5)
        torch._foreach_add_(root, 1e-8)
        change = torch._foreach_div(self.mean, root)
        torch._foreach_mul_(change, self.rates)
        torch._foreach_add_(self.parameters, change, alpha=-share / (1 - 0.9**self.steps))


class Team:
    """Networks of all arms of one kind, on slots (rate, seed)."""

    def __init__(
        self, arms: LossArms | GradientArms, tasks: int, seeds: list[int], device: torch.device
    ) -> None:
        self.arms = arms
        self.net = MLPs(INPUTS, tasks, seeds * len(RATES), len(arms.names), device)
        learned = arms.learned if isinstance(arms, LossArms) else []
        rates = torch.tensor(RATES, device=device).repeat_interleave(len(seeds))
        self.optimizer = Adam([*self.net.parameters, *learned], rates)
        self.weights = torch.ones(len(rates), len(arms.names), tasks, device=device)

    def step(self, x: Tensor, y: Tensor, share: float) -> None:
        if isinstance(self.arms, LossArms):
            losses = self.net.losses(x, y)
            decided = self.arms.decide(losses.detach())
            total = (decided.weights * losses).sum() + decided.penalty.sum()
            gradients = list(torch.autograd.grad(total, self.optimizer.parameters))
            weights = decided.weights.detach()
        else:
            weights, gradients = self.combined(x, y, self.arms)
        self.optimizer.step(gradients, share)
        self.weights.lerp_(weights, 0.05)

    @torch.no_grad()
    def combined(self, x: Tensor, y: Tensor, arms: GradientArms) -> tuple[Tensor, list[Tensor]]:
        losses, rows, (matrix, bias) = self.net.by_task(x, y)
        half = len(rows[0]) // 2
        weights = arms.decide(losses, rows, [row[half - 1] for row in rows])
        factor = weights.flatten(0, 1)  # (M, K)
        of_head = torch.where(arms.weighs_heads[None, :, None], weights, 1.0).flatten(0, 1)[:, None, :, None]
        trunk = [torch.einsum("mk,mk...->m...", factor, torch.stack(p, 1)) for p in zip(*rows, strict=True)]
        heads = [(matrix * of_head).flatten(2), (bias * of_head).flatten(2)]
        return weights, [*trunk[:half], heads[0], *trunk[half:], heads[1]]

    @torch.no_grad()
    def risks(self, x: Tensor, y: Tensor) -> Tensor:
        """``(S, A, K)``."""
        variance = (y - y.mean(1, keepdim=True)).square().mean((1, 3))
        total = torch.zeros_like(self.weights)
        pieces = 4
        for part_x, part_y in zip(x.chunk(pieces, 1), y.chunk(pieces, 1), strict=True):
            total += self.net.losses(part_x, part_y)
        return total / pieces / variance[:, None]


def study(name: str, arguments: argparse.Namespace, clock: results.Clock, out: results.Results) -> None:
    """Trains all arms on one problem."""
    device, sigmas = torch.device(arguments.device), SIGMAS[name]
    tasks = [f"sigma {sigma:g}" for sigma in sigmas]
    few = len(sigmas) > 2  # their gradient methods are solved training by training, on the host
    seeds = list(range(max(2, arguments.seeds // 2) if few else arguments.seeds))
    slots = len(seeds) * len(RATES)
    functions = Functions(sigmas, seeds, device)
    ways = (
        LossArms(loss_arms(tasks), tasks, slots, device),
        GradientArms(gradient_arms(), tasks, slots, device),
    )
    teams = [Team(arms, len(tasks), seeds, device) for arms in ways]
    twice = len(RATES)
    count = 64 if arguments.quick else 2048
    test, val = functions.draw(count), functions.draw(count)
    course: list[dict[str, Any]] = []
    step, share, every = 0, 0.0, 100 if arguments.steps > 200 else 5
    while share < 1:
        x, y = (part.repeat(twice, *[1] * (part.ndim - 1)) for part in functions.draw(BATCH))
        for team in teams:
            team.step(x, y, 0.5 * (1 + math.cos(math.pi * share)))
        step += 1
        if step % every == 0:
            ways[0].end_epoch(torch.ones(slots, dtype=torch.bool, device=device))
            if device.type == "cuda":
                torch.cuda.synchronize()
        share = max(step / arguments.steps, clock.share)
        if share >= len(course) / SHOWN or share >= 1:
            course.append({"step": step, "share": min(share, 1.0), **note(teams, *test, twice)})
    judged = note(teams, *val, twice)["risks"]
    found = summary(tasks, teams, course, judged, len(seeds))
    found |= {"steps": step, "seeds": len(seeds), "sigmas": sigmas, "seconds": clock.seconds}
    out.update(**{name: found})
    print(f"{name}: {step} steps, {clock.seconds:.0f} s\n{table_of(found)}", flush=True)


def note(teams: list[Team], x: Tensor, y: Tensor, twice: int) -> dict[str, Tensor]:
    """Risks and weights ``(S, A, K)`` of all arms now."""
    x, y = (part.repeat(twice, *[1] * (part.ndim - 1)) for part in (x, y))
    risks = torch.cat([team.risks(x, y) for team in teams], 1).cpu()
    return {"risks": risks, "weights": torch.cat([team.weights for team in teams], 1).cpu()}


def summary(
    tasks: list[str], teams: list[Team], course: list[dict[str, Any]], judged: Tensor, seeds: int
) -> dict[str, Any]:
    """Of every arm, at the learning rate that did better on other samples."""
    names = [name for team in teams for name in team.arms.names]
    arms: dict[str, Any] = {}
    alone: dict[str, Tensor] = {}
    for a, name in enumerate(names):
        single = tasks.index(name.removeprefix("single: ")) if name.startswith("single") else None
        scored = [single] if single is not None else list(range(len(tasks)))
        by_rate = judged[:, a, scored].view(len(RATES), seeds, -1).mean((1, 2)).nan_to_num(torch.inf)
        rate = int(by_rate.argmin())
        rows = slice(rate * seeds, (rate + 1) * seeds)
        risks = course[-1]["risks"][rows, a][:, scored]
        if single is not None:
            alone[tasks[single]] = risks[:, 0]
        entry: dict[str, Any] = {
            "mean risk": results.mean_sd(risks.mean(1).tolist()),
            "risks": {tasks[k]: float(risks[:, i].mean()) for i, k in enumerate(scored)},
            "learning rate": RATES[rate],
            "mean risk over time": [float(now["risks"][rows, a][:, scored].mean()) for now in course],
        }
        if single is None:
            change = torch.stack([risks[:, k] / alone[task] - 1 for k, task in enumerate(tasks)])
            entry["delta_m_percent"] = results.mean_sd((100 * change.mean(0)).tolist())
            weights = [now["weights"][rows, a].mean(0) for now in course]
            entry["weights over time, sum 1"] = [(w / w.abs().sum()).tolist() for w in weights]
        arms[name] = entry
    return {"tasks": tasks, "noted at steps": [now["step"] for now in course], "arms": arms}


def table_of(found: dict[str, Any]) -> str:
    """As markdown."""
    rows = [["", "mean risk", "worst task's", "delta-m in %", "learning rate"]]
    for name, entry in found["arms"].items():
        mean, change = entry["mean risk"], entry.get("delta_m_percent")
        rows.append([
            name,
            f"{mean['mean']:.4f} ± {mean['sd']:.4f}",
            f"{max(entry['risks'].values()):.4f}",
            f"{change['mean']:+.1f} ± {change['sd']:.1f}" if change else "",
            f"{entry['learning rate']:g}",
        ])  # fmt: skip
    return results.markdown(rows)


def main() -> None:
    options = results.parser(__doc__ or "", minutes=2)
    options.add_argument("--seeds", type=int, default=10)
    options.add_argument("--steps", type=int, default=STEPS, help="at most")
    options.add_argument("--problems", nargs="+", default=list(SIGMAS), choices=list(SIGMAS))
    arguments = options.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.steps = 2, 4
        torch.set_num_threads(1)
    torch.manual_seed(0)
    out = results.Results("papers-gradnorm-toy", arguments)
    whole = results.Clock(arguments.minutes)
    settings = {"batch": BATCH, "learning rates": RATES, "alphas": ALPHAS, "products": "float32"}
    out.update(settings=settings)
    for left, name in zip(range(len(arguments.problems), 0, -1), arguments.problems, strict=True):
        study(name, arguments, results.Clock((whole.limit - whole.seconds) / left / 60), out)
    print(out.path)


if __name__ == "__main__":
    main()
