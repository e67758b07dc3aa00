"""How many CPU threads are fastest for this network: timed once, because one may beat two."""

from __future__ import annotations

import os
import time

import torch

from medmtl.engine.launch import ranks_here
from medmtl.models import MultiTaskNetwork


def choose_threads(network: MultiTaskNetwork, volume: tuple[int, ...], wanted: int = 0) -> int:
    """Set and return torch's thread count.

    Args:
        network: its encoder is timed, forward and backward, with one thread and with all.
        volume: ``(N, C, X, Y, Z)`` of a training batch.
        wanted: use this many; 0 times.
    """
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    available = max(1, available // ranks_here())
    candidates = [wanted] if wanted else sorted({1, available})
    best, shortest = candidates[0], float("inf")
    if len(candidates) > 1:
        image = torch.zeros(volume)
        for threads in candidates:
            torch.set_num_threads(threads)
            times = [_seconds(network, image) for _ in range(3)]
            if min(times[1:]) < shortest:
                best, shortest = threads, min(times[1:])
    torch.set_num_threads(best)
    return best


def _seconds(network: MultiTaskNetwork, image: torch.Tensor) -> float:
    started = time.perf_counter()
    pyramid = network.backbone.encode(image)
    decoded = [level for decode in network.all_decoders() for level in decode(pyramid)]
    total = torch.stack([level.sum() for level in decoded]).sum()
    if total.requires_grad:  # a trunk may be frozen
        total.backward()
    network.zero_grad(set_to_none=True)
    return time.perf_counter() - started
