"""The temperature at which a softmax spreads over a wanted effective number of tasks.

The effective number of a distribution w is its perplexity exp(-sum w log w): 1 when one task has everything,
P when P tasks share equally. It falls as the temperature falls, so the temperature is found by two nested
grids of 512 cells: each looks at all its temperatures at once and keeps the cell with the answer, with a
relative error of 2e-4. The number of operations is fixed and nothing waits for the device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

ROUNDS = 2
CELLS = 512
COLDEST, HOTTEST = math.log(1e14), math.log(1e-5)
"""Ends of the search, as log inverse temperature in units of the logits' own range."""


def effective_number(weights: Tensor) -> Tensor:
    """Perplexity of weights ``(..., P)`` that sum to 1: ``(...)``, between 1 and P."""
    return torch.special.entr(weights).sum(-1).exp()


def spread_softmax(
    logits: Tensor, usable: Tensor, target: float | Tensor, *, at_least: bool = False
) -> Tensor:
    """softmax(logits / T) with T such that the effective number of tasks is the target.

    Multiplying every logit by a number, or adding one to each, changes nothing, unless ``at_least``. Tasks
    that tie for the first place cannot be told apart: where n of them tie, the effective number is never
    below n. A target of as many tasks as there are, or more, gives equal weights.

    Args:
        logits: ``(P,)`` finite where usable.
        usable: ``(P,)`` bool; the others get weight 0 and do not count.
        target: wanted effective number of tasks, at least 1.
        at_least: take T = 1 where that already spreads over the target or more, so that logits that hardly
            differ are not told apart by force.

    Returns:
        ``(P,)`` float32 weights that sum to 1 over the usable tasks.
    """
    exact = torch.float32 if logits.device.type == "mps" else torch.float64
    wide = logits.to(exact)
    top = torch.where(usable, wide, -torch.inf).max()
    bottom = torch.where(usable, wide, torch.inf).min()
    span = (top - bottom).clamp_min(torch.finfo(exact).tiny)
    unit = torch.where(usable, (wide - top) / span, -torch.inf)  # in [-1, 0]
    count = usable.sum()
    goal = torch.minimum(count, torch.ones_like(count) * target).to(exact)
    low = torch.full((), HOTTEST, dtype=exact, device=logits.device)
    width = torch.full((), COLDEST - HOTTEST, dtype=exact, device=logits.device)
    cells = torch.arange(CELLS + 1, dtype=exact, device=logits.device) / CELLS
    for _ in range(ROUNDS):
        inverse = (low + width * cells).exp()
        spread = effective_number(torch.softmax(inverse[:, None] * unit, dim=-1))
        hotter = (spread > goal).sum().clamp(1, CELLS) - 1
        width = width / CELLS
        low = low + hotter * width
    inverse = low.exp()
    if at_least:
        inverse = torch.minimum(inverse, span)
    weights = torch.softmax(inverse * unit, dim=-1)
    flat = torch.where(usable, 1.0, 0.0) / count.clamp_min(1)
    return torch.where(goal < count, weights, flat).float()
