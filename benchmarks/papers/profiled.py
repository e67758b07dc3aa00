"""What bounds a step: the host, the device, or waits of one for the other."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

STEPS = 20


def timed(step: Callable[[], None], device: str) -> str:
    """Milliseconds of a step, of the host in it, and the operations that cost the device most.

    Where the host alone takes as long as the step, the host bounds it, or the step waits for the device.
    """

    def wait() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    for _ in range(5):
        step()
    wait()
    began = time.perf_counter()
    for _ in range(STEPS):
        step()
    host = time.perf_counter() - began
    wait()
    whole = time.perf_counter() - began
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if device.startswith("cuda"):
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=kinds) as profile:
        for _ in range(5):
            step()
        wait()
    order = "self_cuda_time_total" if device.startswith("cuda") else "self_cpu_time_total"
    table = profile.key_averages().table(sort_by=order, row_limit=25, max_name_column_width=60)
    return (
        f"{1000 * whole / STEPS:.1f} ms a step, {1000 * host / STEPS:.1f} of the host; of 5 steps:\n{table}"
    )
