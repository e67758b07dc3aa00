"""Chen et al., ICML 2018, figure 4: random static weights against their distance from GradNorm's.

python benchmarks/papers/gradnorm_static.py --slices FILE    # -> results/papers-gradnorm-static.json
python benchmarks/papers/gradnorm_static.py --make FILE        # draws the slices; needs medmtl installed

The paper trains 100 networks on NYUv2 with random static weights: the further from the weights to which
GradNorm converged, the worse. Here: slices of made-up hearts, 32 x 32, and a small encoder and decoder
with three tasks: the anatomy (cross-entropy), a T1 map (squared error in 100 ms, inside the heart) and
the areas of LV, myocardium and RV in cm2 (squared error). First GradNorm (alpha 0.5 and 1.5) and methods
on losses train from three starts. Then all the static weights train from the first start, GradNorm's own
converged ones among them, and are scored by the mean relative change of the test errors (1 - Dice, T1
and area errors) against those: above 0 is worse.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import results
import torch
from side_by_side import SideBySide, builder
from slice_nets import TASKS, Data, Nets, make_slices, read_slices
from teams import LossArms
from torch import Tensor

RATE, BATCH, STEPS, STATIC = 3e-3, 32, 2000, 100
GRADNORM: dict[str, dict[str, Any]] = {
    f"gradnorm, alpha {a:g}": {"type": "gradnorm", "alpha": a} for a in (0.5, 1.5)
}
CRITERIA = {"anatomy": "cross-entropy", "t1": "l2", "areas": "l2"}
OTHERS: dict[str, Any] = {
    "ew": {"type": "ew"},
    "uw": {"type": "uw", "criteria": CRITERIA},
    "uw-o": {"type": "uw-o", "criteria": CRITERIA},
    "uw-so, 2.4 tasks": {"type": "uw-so", "effective_tasks": 2.4},
    "balanced": {"type": "balanced"},
}


def train(
    nets: Nets, rule: Any, data: Data, arguments: argparse.Namespace, clock: results.Clock
) -> tuple[Tensor, int]:
    """Trains with what ``rule(losses, per-task gradients of the last shared layer)`` decides; its weights."""
    learned = rule.learned
    parameters = [*nets.parameters.values(), *learned]
    optimizer = torch.optim.Adam(parameters, lr=RATE)
    count = len(data["image"])
    share, step = 0.0, 0
    weights = torch.zeros(nets.count, len(TASKS), device=data["image"].device)
    while share < 1:
        for group in optimizer.param_groups:
            group["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * share))
        index = torch.randint(count, (arguments.batch,), device=data["image"].device)
        batch = {name: part[index] for name, part in data.items()}
        losses = nets.losses(nets(batch["image"]), batch)
        found, penalty = rule(losses, nets.parameters["shared"])
        total = (found * losses).sum() + penalty
        for parameter, gradient in zip(parameters, torch.autograd.grad(total, parameters), strict=True):
            parameter.grad = gradient
        optimizer.step()
        step += 1
        share = max(step / arguments.steps, clock.share)
        if share > 0.5:
            weights += found.detach()
        if step % 50 == 0 and weights.is_cuda:
            torch.cuda.synchronize()
    return weights / weights.sum(1, keepdim=True) * len(TASKS), step


class Methods:
    """Slots (start), arms GradNorm's and the others, as one set of ``S * A`` networks."""

    def __init__(self, starts: int, device: torch.device) -> None:
        self.starts, self.names = starts, [*GRADNORM, *OTHERS]
        self.norms = [SideBySide(builder(TASKS, **arm), starts, device) for arm in GRADNORM.values()]
        self.others = LossArms(OTHERS, TASKS, starts, device)
        self.learned = self.others.learned

    def __call__(self, losses: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        arms, first = len(self.names), len(self.norms)
        rows = [
            torch.autograd.grad(losses[:, k].sum(), last, retain_graph=True)[0] for k in range(len(TASKS))
        ]
        block = torch.stack([row.flatten(2) for row in rows], 1).unflatten(0, (self.starts, arms))
        norms = block.norm(dim=-1)  # (S, A, K, filters)
        flat = block.flatten(3)
        by_arm = losses.detach().unflatten(0, (self.starts, arms))
        found = [
            rule(by_arm[:, a], flat[:, a] @ flat[:, a].mT, norms[:, a])[0]
            for a, rule in enumerate(self.norms)
        ]
        decided = self.others.decide(by_arm[:, first:])
        weights = torch.cat([torch.stack(found, 1), decided.weights], 1)
        return weights.flatten(0, 1), decided.penalty.sum()


class Static:
    """Weights that stay."""

    learned: tuple[Tensor, ...] = ()

    def __init__(self, weights: Tensor) -> None:
        self.weights = weights

    def __call__(self, losses: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        return self.weights, losses.new_zeros(())


def spearman(a: Tensor, b: Tensor) -> float:
    ranks = torch.stack([a.argsort().argsort().double(), b.argsort().argsort().double()])
    return float(torch.corrcoef(ranks)[0, 1])


def study(arguments: argparse.Namespace, out: results.Results, clock: results.Clock) -> None:
    device = torch.device(arguments.device)
    train_data, test_data = read_slices(arguments.slices, device)
    starts = list(range(1 if arguments.quick else 3))
    methods = Methods(len(starts), device)
    nets = Nets([seed for seed in starts for _ in methods.names], device)
    half = results.Clock(arguments.minutes * 0.4)
    weights, steps = train(nets, methods, train_data, arguments, half)
    errors = nets.errors(test_data).unflatten(0, (len(starts), -1))
    by_method = weights.unflatten(0, (len(starts), -1))
    out.update(
        methods={
            name: {
                "test errors": dict(zip(TASKS, errors[:, a].mean(0).tolist(), strict=True)),
                "mean weights, sum 3": dict(zip(TASKS, by_method[:, a].mean(0).tolist(), strict=True)),
            }
            for a, name in enumerate(methods.names)
        },
        steps={"methods": steps},
    )
    converged = by_method[:, : len(GRADNORM)].mean(0)
    g = torch.Generator().manual_seed(0)
    # Weights that span scales, as losses in different units do, and some of the plain simplex.
    logs = torch.exp(2.0 * torch.randn(arguments.static // 2, len(TASKS), generator=g))
    flat = -torch.log(torch.rand(arguments.static - len(logs), len(TASKS), generator=g))
    random = torch.cat([logs, flat])
    random = (random / random.sum(1, keepdim=True) * len(TASKS)).to(device)
    every = torch.cat([converged, torch.ones_like(converged[:1]), random])
    nets = Nets([0] * len(every), device)
    rest = results.Clock((clock.limit - clock.seconds) / 60)
    _, steps = train(nets, Static(every), train_data, arguments, rest)
    errors = nets.errors(test_data)
    points = {}
    for a, name in enumerate(GRADNORM):
        change = 100 * (errors / errors[a] - 1).mean(1)
        distance = (every - converged[a]).norm(dim=1)
        points[name] = {
            "weights, sum 3": converged[a].tolist(),
            "test errors with them, static": errors[a].tolist(),
            "rank correlation of distance and change": spearman(
                distance[len(GRADNORM) + 1 :], change[len(GRADNORM) + 1 :]
            ),
            "static weights that did better": int((change[len(GRADNORM) + 1 :] < 0).sum()),
            "equal weights": {
                "distance": float(distance[len(GRADNORM)]),
                "change_percent": float(change[len(GRADNORM)]),
            },
            "distance": distance[len(GRADNORM) + 1 :].tolist(),
            "change_percent": change[len(GRADNORM) + 1 :].tolist(),
        }
    out.update(
        figure_4=points,
        static=random.tolist(),
        steps={**out.found["steps"], "static": steps},
        seconds=clock.seconds,
    )
    for name, found in points.items():
        print(
            name,
            {
                key: value
                for key, value in results.rounded(found).items()
                if key not in ("distance", "change_percent")
            },
        )


def main() -> None:
    options = results.parser(__doc__ or "", minutes=1)
    options.add_argument("--slices", type=Path, default=results.ROOT / "build" / "phantom-slices.npz")
    options.add_argument("--make", type=Path, help="draw the slices into this file, and stop")
    options.add_argument("--steps", type=int, default=STEPS, help="at most, of each of the two trainings")
    options.add_argument("--batch", type=int, default=BATCH)
    options.add_argument("--static", type=int, default=STATIC, help="number of random static weights")
    arguments = options.parse_args()
    if arguments.make:
        make_slices(arguments.make, cases=200)
        return
    if arguments.quick:
        arguments.steps, arguments.static, arguments.batch = 3, 6, 4
        torch.set_num_threads(1)
    torch.manual_seed(0)
    out = results.Results("papers-gradnorm-static", arguments)
    out.update(settings={"batch": arguments.batch, "learning rate": RATE, "static weights": arguments.static})
    study(arguments, out, results.Clock(arguments.minutes))
    print(out.path)


if __name__ == "__main__":
    main()
