"""Which samples of a batch a task has labels for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from medmtl.models import MultiTaskNetwork
from medmtl.tasks import Task
from medmtl.types import UNLABELLED, Batch, ConfigError


def labelled_frames(task: Task, batch: Batch) -> Tensor:
    """``(N,)`` bool: frames that a task learns from; of a case-level label all frames of the case."""
    found = torch.zeros(len(batch.case_of_frame), dtype=torch.bool, device=batch.image.device)
    for target in task.targets:
        labels = batch.targets.get(target)
        if labels is None:
            continue
        if labels.ndim > 1:
            known = torch.isfinite(labels) if labels.is_floating_point() else labels != UNLABELLED
            found |= known.flatten(1).any(1)
        else:
            known = torch.isfinite(labels) if labels.is_floating_point() else labels >= 0
            found |= known[batch.case_of_frame]
    return found


def check_same_view(network: MultiTaskNetwork, present: Sequence[str], batch: Batch) -> None:
    """Refuse to compare feature gradients of tasks of which one sees patches and one whole volumes.

    Raises:
        ConfigError: so.
    """
    local, whole = network.views(present, batch.overview, len(batch.case_of_frame))
    if local and whole:
        raise ConfigError(
            f"weighting.on = features compares gradients on the same features, but {', '.join(present)} see "
            "patches and whole volumes, which have features of their own; use on = last_layers"
        )


def check_same_samples(
    network: MultiTaskNetwork, tasks: Mapping[str, Task], present: Sequence[str], batch: Batch
) -> None:
    """Refuse to compare feature gradients of tasks that label different samples. Waits for the device.

    Raises:
        ConfigError: two tasks label different frames of this batch, or see different views of it.
    """
    check_same_view(network, present, batch)
    frames = {name: labelled_frames(tasks[name], batch) for name in present}
    first, *others = frames
    for name in others:
        differ = int((frames[name] != frames[first]).sum())
        if differ:
            raise ConfigError(
                f"weighting.on = features compares gradients sample by sample, but tasks {first!r} and "
                f"{name!r} label different ones ({differ} of {len(frames[name])} frames in this batch), and "
                "would look unrelated however opposed they are; use on = last_layers"
            )
