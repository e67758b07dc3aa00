"""A step under a weighting of losses never makes the host wait for a GPU."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from medmtl.data.batch import to_device
from medmtl.data.dataset import Dataset
from medmtl.engine import train_step
from medmtl.engine.setup import Ready
from medmtl.types import Batch
from medmtl.weighting import WEIGHTINGS, GradientWeighting, Weighting, build_weighting
from tests.helpers.study import make_batches, make_job, make_ready, sections

TASKS = ("anatomy", "tissue", "t1", "disease", "function")
OPTIONS: dict[str, dict[str, Any]] = {
    "uw-so": {"effective_tasks": 2.0, "normalize_losses": "first", "floor": 0.05},
    "scalarization": {"weights": dict.fromkeys(TASKS, 0.2)},
    "handcrafted": {"reference": "anatomy"},
    "dynamic-scaling": {"reference": "anatomy"},
    "normalized": {"raw": "inverse", "normalizer": "softmax"},
}
WAITLESS = sorted(n for n in WEIGHTINGS if not issubclass(WEIGHTINGS.get(n), GradientWeighting))
WAITING = {"_local_scalar_dense", "is_nonzero", "nonzero", "equal", "masked_select", "unique_dim", "_unique2"}
"""Operations that give the host a number, or a shape that hangs on one."""
ASKING = {"tolist", "item", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__"}
"""Methods of a tensor that do, and leave no operation behind on a CPU."""


def place() -> str:
    """Where in medmtl that is, or nothing."""
    frames = [frame for frame in traceback.extract_stack() if "/medmtl/" in frame.filename]
    return f"{frames[-1].filename}:{frames[-1].lineno} {frames[-1].line}" if frames else ""


class Methods(TorchFunctionMode):
    """Notes calls of the methods that ask for a number."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__name__", "") in ASKING:
            self.found.append(place())
        return func(*args, **(kwargs or {}))


class Watch(TorchDispatchMode):
    """Notes where an operation would wait, had it run on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        chosen = args[1] if name.startswith("index") and len(args) > 1 else ()
        by_flags = isinstance(chosen, list | tuple) and any(
            isinstance(part, torch.Tensor) and part.dtype == torch.bool for part in chosen
        )
        # PyTorch looks at the values of one-hot labels on a CPU, and not on a GPU.
        if (name in WAITING or by_flags) and "one_hot" not in place():
            self.found.append(f"{name} in {place()}")
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def ready(study: Dataset) -> Ready:
    return make_ready(make_job(study, study.root / "run", sections(*TASKS)))


def stepper(ready: Ready, batch: Batch, weighting: Weighting) -> Callable[[], object]:
    network = ready.model.network.to(batch.image.device).train()
    weighting.to(batch.image.device)
    optimizer = torch.optim.SGD([*network.parameters(), *weighting.parameters()], lr=0.0)
    return lambda: train_step(network, batch, ready.model.tasks, weighting, optimizer, max_gradient_norm=1.0)


@pytest.mark.parametrize("absent", [(), ("t1",)], ids=["all", "one absent"])
@pytest.mark.parametrize("method", [*WAITLESS, "gradnorm"])
def test_no_operation_of_a_step_asks_for_a_number(ready: Ready, method: str, absent: tuple[str, ...]) -> None:
    batch = make_batches(ready).batch(0)
    batch.counts = {name: 0 if name in absent else count for name, count in batch.counts.items()}
    step = stepper(ready, batch, build_weighting(method, TASKS, **OPTIONS.get(method, {})))
    step()  # the first step may put what it keeps onto the device
    with Watch() as watch, Methods(watch.found):
        step()
    assert watch.found == []


def test_a_policy_that_has_to_know_before_the_backward_pass_is_seen_to_wait(ready: Ready) -> None:
    weighting = build_weighting("ew", TASKS, on_bad_loss="drop-task")
    step = stepper(ready, make_batches(ready).batch(0), weighting)
    step()
    with Watch() as watch, Methods(watch.found):
        step()
    assert any("_bad_losses.py" in where for where in watch.found)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype:UserWarning")
@pytest.mark.parametrize("method", WAITLESS)
def test_cuda_itself_sees_no_wait(ready: Ready, method: str) -> None:
    batch = to_device(make_batches(ready).batch(0), torch.device("cuda"))
    step = stepper(ready, batch, build_weighting(method, TASKS, **OPTIONS.get(method, {})))
    step()
    step()
    torch.cuda.synchronize()
    try:
        torch.cuda.set_sync_debug_mode("error")
        output = step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert output is not None
