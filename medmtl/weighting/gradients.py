"""What gradient-based methods see of the tasks' gradients: inner products, and norms by filter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medmtl.types import ConfigError
from medmtl.weighting._weighed import finite


@dataclass(frozen=True)
class Gradients:
    """Gradients of P tasks' losses on the same weights, as their inner products.

    A combination sum_i w_i g_i needs no more than w, and w follows from inner products alone, so that no
    method has to hold the gradients themselves.

    Attributes:
        tasks: names of the P tasks.
        gramian: ``(P, P)`` float32 or wider, inner products g_i . g_j over everything that is compared.
        filter_norms: ``(P, F)`` norm of each task's gradient on each of F filters (output channels of
            convolutions, whole matrices of linear layers); biases and scales of norms are left out.
    """

    tasks: tuple[str, ...]
    gramian: Tensor
    filter_norms: Tensor

    @classmethod
    def of(cls, rows: Mapping[str, Sequence[Tensor]]) -> Gradients:
        """From each task's gradients ``{task: [one per parameter, in the parameters' shapes]}``.

        Raises:
            ConfigError: no task, or tasks whose gradients have different shapes.
        """
        if not rows:
            raise ConfigError("no task has a gradient to compare")
        shapes = {task: [tuple(part.shape) for part in parts] for task, parts in rows.items()}
        if len({tuple(found) for found in shapes.values()}) > 1:
            raise ConfigError(f"gradients of different shapes cannot be compared: {shapes}")
        gramian, norms = None, []
        for parts in zip(*rows.values(), strict=True):
            block = torch.stack([part.detach().flatten() for part in parts])
            block = block if block.dtype == torch.float64 else block.float()
            product = block @ block.T
            gramian = product if gramian is None else gramian + product
            if parts[0].ndim >= 2:
                filters = parts[0].shape[0] if parts[0].ndim > 2 else 1
                norms.append(torch.linalg.vector_norm(block.unflatten(1, (filters, -1)), dim=2))
        if gramian is None:
            raise ConfigError("the tasks share no weight on which their gradients could be compared")
        return cls(tuple(rows), gramian, torch.cat(norms, 1) if norms else gramian.new_zeros(len(rows), 0))

    def norms(self) -> Tensor:
        """Norm ``(P,)`` of each task's gradient."""
        return self.gramian.diagonal().clamp_min(0).sqrt()

    def cosines(self) -> Tensor:
        """Cosine ``(P, P)`` of each pair; NaN where a gradient is 0."""
        norms = self.norms()
        return (self.gramian / norms[:, None] / norms[None, :]).clamp(-1, 1)

    def finite(self) -> Tensor:
        """``(P,)`` bool: tasks whose gradient holds neither NaN nor infinity."""
        return finite(self.gramian.diagonal())

    def select(self, tasks: Sequence[str]) -> Gradients:
        """Those of some tasks, in the given order."""
        if tuple(tasks) == self.tasks:
            return self
        rows = [self.tasks.index(task) for task in tasks]  # integers: a tensor of them would wait for a GPU
        some = torch.stack([self.gramian[row] for row in rows])
        gramian = torch.stack([some[:, row] for row in rows], dim=1)
        return Gradients(tuple(tasks), gramian, torch.stack([self.filter_norms[row] for row in rows]))
