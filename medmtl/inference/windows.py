"""Dense tasks of volumes of any size, by sliding windows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.data import MetaTensor
from monai.inferers import sliding_window_inference
from torch import Tensor

from medmtl.inference.context import Context


class DensePass:
    """Image patches in, all dense tasks side by side along the channels out; averaged over mirrors if asked.

    One tensor, not one per task: MONAI's buffered windows keep only the first entry of a dict, silently.

    Args:
        context: network and tasks.
        tasks: dense tasks wanted, hosts before those that read them.
    """

    def __init__(self, context: Context, tasks: Sequence[str]) -> None:
        self.context, self.tasks = context, tuple(tasks)
        self.widths: list[int] = []

    def __call__(self, patches: Tensor) -> Tensor:
        """``(N, C, X, Y, Z)`` -> ``(N, sum of the tasks' channels, X, Y, Z)``."""
        total = self._once(patches)
        if not self.context.mirror:
            return total
        for axes in ((2,), (3,), (2, 3)):
            total = total + self._once(patches.flip(axes)).flip(axes)
        return total / 4

    def split(self, together: Tensor) -> dict[str, Tensor]:
        """The tasks' channels apart again."""
        return dict(zip(self.tasks, together.split(self.widths, dim=1), strict=True))

    def _once(self, patches: Tensor) -> Tensor:
        self.context.check()
        network, tasks, n = self.context.network, self.context.tasks, len(patches)
        cases = torch.arange(n, device=patches.device)
        with self.context.autocast():
            needed = network.needed(self.tasks)
            features = network.features(
                patches, cases, patches.new_ones((n, 3)), patches.new_zeros((n, 0)), tasks=needed
            )
            outputs = network.run_dense(features, needed)
        found = [tasks[name].stitchable(outputs[name]) for name in self.tasks]
        self.widths = [int(part.shape[1]) for part in found]
        return torch.cat(found, dim=1)


def slide_windows(context: Context, image: Tensor, tasks: Sequence[str]) -> dict[str, Tensor]:
    """Dense tasks of every frame ``(T, C, X, Y, Z)`` by Gaussian-weighted windows that overlap by half."""
    if not tasks:
        return {}
    dense = DensePass(context, tasks)
    target = torch.device("cpu") if context.stitch_on_cpu else context.device
    stitched = [
        sliding_window_inference(
            frame.to(target),
            roi_size=context.preparation.patch,
            sw_batch_size=context.volumes_at_once,
            predictor=dense,
            overlap=0.5,
            mode="gaussian",
            sw_device=context.device,
            device=target,
            progress=False,
        )
        for frame in image.split(1)
    ]
    return dense.split(torch.cat([s.as_tensor() if isinstance(s, MetaTensor) else s for s in stitched]))
