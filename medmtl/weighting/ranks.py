"""Losses of the whole batch when several ranks hold a part of it each: one flat all-reduce.

With n_ir labels of task i on rank r and the rank's mean loss L_ir over them, the loss of the whole batch is
L_i = sum_r n_ir L_ir / sum_r n_ir. Weights must follow from L_i on every rank, or the ranks' networks would
be pulled by different weights; and the gradient of L_i is the mean over N ranks of the gradients of
N n_ir / n_i L_ir. This module gives both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from medmtl.types import ConfigError


@dataclass(frozen=True)
class SharedLosses:
    """What the ranks know together; ``weighting(shared.local, observed=shared.observed)``.

    Attributes:
        local: ``()`` losses of this rank's tasks, scaled so that the *mean* of their gradients over the ranks
            is the gradient of the whole batch's losses.
        observed: ``()`` detached losses of the whole batch, of every task with a label on any rank; the same
            on every rank.
        counts: labels of each task in the whole batch, 0 for absent ones.
    """

    local: dict[str, Tensor]
    observed: dict[str, Tensor]
    counts: dict[str, int]


def share_losses(
    losses: Mapping[str, Tensor],
    counts: Mapping[str, int],
    tasks: Sequence[str],
    *,
    totals: Mapping[str, int] | None = None,
    device: torch.device | None = None,
    group: dist.ProcessGroup | None = None,
) -> SharedLosses:
    """Average the losses of all ranks, each weighing as many labels as it has.

    Exact where a loss is a mean over its labels; a loss that is no such mean (Dice over a batch) becomes the
    weighted mean of the ranks' values. A NaN on one rank is a NaN for all, so that all decide alike.

    Args:
        losses: ``()`` mean loss of each task that has labels on this rank.
        counts: labels behind each of them.
        tasks: all tasks, in the same order on every rank.
        totals: labels of each task over all ranks, where the caller knows them already. Without them a GPU is
            waited for once, to learn which tasks are present anywhere.
        device: of the exchange; that of the losses when None, needed where a rank may have no loss.
        group: the ranks that take part; all of them when None.

    Raises:
        ConfigError: a loss without a label count, totals below it, or no device to exchange on.
    """
    for name in losses:
        if counts.get(name, 0) <= 0:
            raise ConfigError(f"the loss of task {name!r} comes without a label count above 0")
    if not (dist.is_available() and dist.is_initialized()):
        known = {task: counts.get(task, 0) if task in losses else 0 for task in tasks}
        return SharedLosses(dict(losses), {name: loss.detach() for name, loss in losses.items()}, known)
    flat = _flatten(losses, counts, tasks, device)
    dist.all_reduce(flat, group=group)
    sums, numbers = flat[: len(tasks)], flat[len(tasks) :]
    if totals is None:
        totals = {task: int(number) for task, number in zip(tasks, numbers.tolist(), strict=True)}
    whole = {task: totals.get(task, 0) for task in tasks}
    observed = {task: (sums[i] / numbers[i]).float() for i, task in enumerate(tasks) if whole[task]}
    short = [name for name in losses if whole[name] < counts[name]]
    if short:
        raise ConfigError(f"totals has fewer labels than this rank alone for {', '.join(map(repr, short))}")
    n_ranks = dist.get_world_size(group)
    local = {name: loss * (n_ranks * counts[name] / whole[name]) for name, loss in losses.items()}
    return SharedLosses(local, observed, whole)


def _flatten(
    losses: Mapping[str, Tensor],
    counts: Mapping[str, int],
    tasks: Sequence[str],
    device: torch.device | None,
) -> Tensor:
    """``(2 K,)``: loss times labels of every task, then the labels; 0 where this rank has none."""
    if device is None:
        if not losses:
            raise ConfigError("a rank without any loss cannot know where to exchange them; give the device")
        device = next(iter(losses.values())).device
    exact = torch.float32 if device.type == "mps" else torch.float64
    flat = torch.zeros(2 * len(tasks), dtype=exact, device=device)
    for i, task in enumerate(tasks):
        if task in losses:
            flat[i] = losses[task].detach().to(exact) * counts[task]
            flat[len(tasks) + i] = counts[task]
    return flat
