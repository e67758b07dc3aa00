"""Several ranks as one: means of gradients by one flat all-reduce, after the backward.

Not by DDP's hooks: those break on a graph that is cut, and on a task that is absent on one rank. Without
`torch.distributed` everything here does nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from medmtl.weighting import Gradients


def world_size() -> int:
    """Number of ranks; 1 without `torch.distributed`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process among the ranks; 0 without `torch.distributed`."""
    return dist.get_rank() if world_size() > 1 else 0


def leads() -> bool:
    """Whether this process is the one that writes files and talks to people."""
    return rank() == 0


@torch.no_grad()
def average(tensors: Sequence[Tensor]) -> None:
    """Replace tensors by their means over the ranks, in one exchange per dtype; same shapes on every rank."""
    if world_size() == 1:
        return
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        group = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.flatten() for tensor in group])
        dist.all_reduce(flat)
        flat /= world_size()
        for tensor, part in zip(group, flat.split([t.numel() for t in group]), strict=True):
            tensor.copy_(part.view_as(tensor))


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Make every ``grad`` the mean over the ranks; one that is None on every rank stays None.

    Ranks tell each other first which parameters have a gradient: a task may have labels on one rank only.
    """
    if world_size() == 1:
        return
    known = [p for p in parameters if p.requires_grad]
    has = torch.tensor([p.grad is not None for p in known], dtype=torch.uint8, device=known[0].device)
    dist.all_reduce(has, op=dist.ReduceOp.MAX)
    reached = [p for p, flag in zip(known, has.tolist(), strict=True) if flag]
    for parameter in reached:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    average([p.grad for p in reached if p.grad is not None])


def joined(gradients: Gradients) -> Gradients:
    """Inner products over the samples of all ranks, each rank having its own samples of the same tasks.

    A rank's gradients are those of losses scaled by the number of ranks (see
    `medmtl.weighting.share_losses`), which is taken out.
    """
    if world_size() == 1:
        return gradients
    gramian, squares = gradients.gramian.clone(), gradients.filter_norms.square()
    dist.all_reduce(gramian)
    dist.all_reduce(squares)
    return Gradients(gradients.tasks, gramian / world_size() ** 2, squares.sqrt() / world_size())


def average_statistics(network: nn.Module) -> None:
    """Make running statistics of batch norms the means over the ranks, each of which saw its own cases."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._NormBase)]
    kept = [n for norm in norms for n in (norm.running_mean, norm.running_var) if n is not None]
    if kept:
        average(kept)
