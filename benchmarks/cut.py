"""Times a training step of every weighting beside equal weights, and beside the ordinary way, K backwards.

python benchmarks/cut.py [--device cuda] [--size small|acdc|plan] [--compile]   # results/cut-DEVICE-SIZE.json

One dense task and two of cases with every method, then three dense ones with one decoder and with a light one
each (not of the planned size). A block of a method's steps lies right beside a block of equal weights', in
either order, so that a busy machine slows both; "x" is the median ratio of such pairs. On a GPU a block is
waited for at its end alone, as in training; "busy x" is the ratio of the times that its kernels take, which
no host bounds that launches slowly. Memory is the peak of a step above what lies there between steps.

"K backward passes (LibMTL's way)" runs every task's backward through the whole network, keeping the graph,
and holds the gradients of all shared parameters of all tasks; TorchJD's own way is `mtl_backward` from the
pyramid. "diagnostics" compares gradients on one step of twenty, whatever is weighed.

On a GPU it also looks for waits: one step of each method that weighs losses under
`torch.cuda.set_sync_debug_mode("error")`.
"""

from __future__ import annotations

import argparse
import gc
import math
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from cut_ways import (
    LOSS_BASED,
    METHODS,
    ONE_DENSE,
    SIZES,
    THREE_DENSE,
    Bench,
    Step,
    k_backwards,
    make_bench,
    stepper,
    torchjd_way,
)
from record import write_result

from medmtl.types import ConfigError

FEW = ("gradnorm", "mgda", "pcgrad", "cagrad")
"""Methods that are timed on the other networks too."""


class Clock:
    """Times blocks of steps beside blocks of equal weights' steps.

    Args:
        bench: the network.
        until: clock time at which no further round begins.
    """

    def __init__(self, bench: Bench, until: float) -> None:
        self.bench, self.until = bench, until
        self.device = bench.batch.image.device
        self.equal = stepper(bench, "ew")
        self.equal_busy = self.busy(self.equal) if self.device.type == "cuda" else math.nan
        self.rows: dict[str, Any] = {}

    def busy(self, step: Step, steps: int = 3) -> float:
        """Seconds per step that the GPU computes."""
        from torch.profiler import ProfilerActivity, profile

        for _ in range(steps):
            step()
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            for _ in range(steps):
                step()
            torch.cuda.synchronize()
        kernels = (e for e in seen.events() if e.device_type == torch.autograd.DeviceType.CUDA)
        return sum(kernel.device_time_total for kernel in kernels) / steps / 1e6

    def block(self, step: Step, steps: int) -> tuple[float, float]:
        """Seconds per step, and peak MiB above what was there before."""
        gpu, before = self.device.type == "cuda", 0
        if gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        began = time.perf_counter()
        for _ in range(steps):
            step()
        if gpu:
            torch.cuda.synchronize()
        seconds = (time.perf_counter() - began) / steps
        return seconds, (torch.cuda.max_memory_allocated() - before) / 2**20 if gpu else math.nan

    def time(self, name: str, step: Step, rounds: int, steps: int) -> None:
        """Rounds of two blocks each; a way that does not run says why."""
        try:
            self.block(step, 3)  # first allocations, algorithms
        except (RuntimeError, ValueError, torch.OutOfMemoryError) as error:
            self.rows[name] = {"fails": str(error).splitlines()[0]}
            return
        pairs = []
        for turn in range(rounds):
            if pairs and time.perf_counter() > self.until:
                break
            if turn % 2:
                own, equal = self.block(step, steps), self.block(self.equal, steps)
            else:
                equal, own = self.block(self.equal, steps), self.block(step, steps)
            pairs.append((own, equal))
        ratios = [own[0] / equal[0] for own, equal in pairs]
        row = {"ms": round(1e3 * median(own[0] for own, _ in pairs), 2), "x": round(median(ratios), 4)}
        row |= {"from": round(min(ratios), 3), "to": round(max(ratios), 3), "rounds": len(pairs)}
        if self.device.type == "cuda":
            row["busy x"] = round(self.busy(step, steps if steps > 8 else 3) / self.equal_busy, 4)
            row["peak MiB"] = round(max(own[1] for own, _ in pairs))
        self.rows[name] = row
        print(f"{name:44} {row}", flush=True)


def waits(bench: Bench) -> dict[str, str]:
    """Which methods that weigh losses make the host wait for the GPU within a step."""
    found = {}
    for method in LOSS_BASED:
        step = stepper(bench, method)
        for _ in range(3):
            step()
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            step()
            found[method] = "never"
        except RuntimeError as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            found[method] = f"{str(error).splitlines()[0]} ({Path(place.filename).name}:{place.lineno})"
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return found


def ways_of(bench: Bench, *, all_methods: bool) -> dict[str, Callable[[], Step]]:
    """What is timed on a network, by name; built when its turn comes."""
    ways: dict[str, Callable[[], Step]] = {"ew": lambda: stepper(bench, "ew")}
    if all_methods:
        for method in LOSS_BASED[1:]:
            ways[method] = partial(stepper, bench, method)
        ways["uw-so, effective_tasks 2"] = partial(stepper, bench, "uw-so", effective_tasks=2.0)
        ways["diagnostics on every 20th step"] = partial(stepper, bench, "ew", compare_every=20)
    for method in METHODS if all_methods else FEW:
        ways[method] = partial(stepper, bench, method)
    for method in ("gradnorm", "pcgrad"):
        ways[f"{method}, sketch 0"] = partial(stepper, bench, method, sketch=0)
    ways["K backward passes (LibMTL's way), pcgrad"] = partial(k_backwards, bench)
    ways["TorchJD mtl_backward, pcgrad"] = partial(torchjd_way, bench)
    return ways


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: time and memory over equal weights'."""
    lines = ["| | x | busy x | ms | memory x |", "|---|---|---|---|---|"]
    memory = rows.get("ew", {}).get("peak MiB")
    for name, row in rows.items():
        if "fails" in row:
            lines.append(f"| {name} | {row['fails']} | | | |")
            continue
        share = f"{row['peak MiB'] / memory:.2f}" if memory and "peak MiB" in row else ""
        busy = f"{row['busy x']:.3f}" if "busy x" in row else ""
        lines.append(f"| {name} | {row['x']:.3f} | {busy} | {row['ms']:.1f} | {share} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", default="small", choices=SIZES)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--minutes", type=float, default=4.0, help="no new round begins after so many")
    asked = parser.parse_args()
    device = torch.device(asked.device)
    began = time.perf_counter()
    if device.type == "cpu":
        torch.set_num_threads(1)
    flags = f"--device {asked.device} --size {asked.size}{' --compile' if asked.compile else ''}"
    name = f"cut-{device.type}-{asked.size}{'-compiled' if asked.compile else ''}"
    settings = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "one thread",
        "rounds": asked.rounds,
        "network": SIZES[asked.size],
        "precision": "bfloat16" if device.type == "cuda" else "float32",
    }
    steps: dict[str, Any] = {}
    found: dict[str, Any] = {"settings": settings, "steps": steps}
    # Seconds of the whole budget at which each network's share of it ends.
    networks = (
        ("one dense task, two of cases", ONE_DENSE, "shared", 1.0 if asked.size == "plan" else 0.7),
        ("three dense tasks, one decoder", THREE_DENSE, "shared", 0.85),
        ("three dense tasks, a light decoder each", THREE_DENSE, "separate", 1.0),
    )
    for title, names, decoders, share in networks[: 1 if asked.size == "plan" else 3]:
        bench = make_bench(names, decoders, asked.size, device, asked.compile)
        whole = names == ONE_DENSE
        if whole and device.type == "cuda":
            found["waits for the GPU"] = waits(bench)
            print(found["waits for the GPU"], flush=True)
        clock = Clock(bench, began + 60 * asked.minutes * share)
        clock.block(clock.equal, 5)
        for way, make in ways_of(bench, all_methods=whole).items():
            if time.perf_counter() > clock.until and way not in ("ew", *METHODS):
                continue
            try:
                step = make()
            except (ImportError, ConfigError) as error:
                clock.rows[way] = {"fails": str(error).splitlines()[0]}
                continue
            length = 20 if way.startswith("diagnostics") else 8 if device.type == "cuda" else 1
            clock.time(way, step, max(2, asked.rounds // 2) if length == 20 else asked.rounds, length)
            steps[title] = clock.rows
            path = write_result(name, f"python benchmarks/cut.py {flags}", found)
        print(f"\n{title}\n\n{table(clock.rows)}\n", flush=True)
        del clock, bench
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    print(path)


if __name__ == "__main__":
    main()
