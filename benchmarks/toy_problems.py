"""Small problems on which weightings are compared: inputs and targets of one seed, drawn on the CPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

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


@dataclass
class Problem:
    """Inputs and targets of one seed."""

    train: Tensor
    val: Tensor
    test: Tensor
    targets: dict[str, Target] = field(default_factory=dict)


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


def sample_losses(kind: str, out: Tensor, y: Tensor) -> Tensor:
    """``(slots, arms, B)`` from outputs ``(slots, arms, B, n)`` and labels ``(slots, B, ...)``."""
    y = y[:, None].expand(-1, out.shape[1], *[-1] * (y.ndim - 1))
    if kind == "squared":
        return (out - y).square().mean(-1)
    if kind == "binary":
        return F.binary_cross_entropy_with_logits(out, y, reduction="none").mean(-1)
    return F.cross_entropy(out.movedim(-1, 1), y, reduction="none")


def risk(kind: str, out: Tensor, y: Tensor) -> Tensor:
    """Test error ``(...)`` of outputs ``(..., B, n)`` over that of a predictor that has learned nothing."""
    if kind == "squared":
        return (out - y).square().mean((-1, -2)) / (y - y.mean(0)).square().mean()
    if kind == "binary":
        wrong = ((out > 0).float() != y).float().mean((-1, -2))
        return wrong / torch.minimum(y.mean(0), 1 - y.mean(0)).mean()
    wrong = (out.argmax(-1) != y).float().mean(-1)
    return wrong / (1 - y.bincount().max() / len(y))
