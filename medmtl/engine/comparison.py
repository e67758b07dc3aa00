"""On what the tasks' gradients are compared: rows, one per task, whose inner products say how tasks agree.

- ``last_layers``: gradients of the weights of the last convolution before each pyramid level, by the direct
  path from that level. A level ends in p = activation(norm(conv(h)) + residual), so that gradient needs c_i
  at that level and the two tensors around conv, which the forward pass keeps; no graph of the encoder. What a
  level contributes through deeper levels is left out of the comparison (not of the update). A backbone that
  does not open its levels is compared by its graph, on the nearest weight behind each level's features.
- ``features``: the c_i themselves. Two tasks that label different samples then look orthogonal however
  opposed they are, so it is refused unless all tasks label the same samples (`medmtl.engine.samples`).
- ``shared_parameters``: gradients on all encoder parameters, exact, one encoder backward per task.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.grad import conv3d_weight

if TYPE_CHECKING:
    from medmtl.engine.cut import Cut

Rows = dict[str, list[Tensor]]
"""By task, gradients on the same weights, in the weights' shapes."""


def rows(cut: Cut, tasks: Sequence[str]) -> Rows:
    """Gradients of the tasks that were pulled down to a cut; zeros for those that were not."""
    if cut.on == "features":
        return _on_features(cut, tasks)
    if cut.on == "shared_parameters":
        return _on_shared_parameters(cut, tasks)
    return _on_opened_layers(cut, tasks) if cut.opened else _on_nearest_weights(cut, tasks)


def _at_level(cut: Cut, level: int) -> dict[str, Tensor]:
    """Gradients at one pyramid level, of the tasks that read it."""
    found = {task: found.at_cut[level] for task, found in cut.found.items()}
    return {task: gradient for task, gradient in found.items() if gradient is not None}


def _on_opened_layers(cut: Cut, tasks: Sequence[str]) -> Rows:
    found: Rows = {task: [] for task in tasks}
    backbone = cut.model.backbone
    for level, (inner, y, *others) in enumerate(cut.parts):
        gradients = _at_level(cut, level)
        convolution = backbone.last_convolution(level)
        y = y.detach().requires_grad_()
        with torch.enable_grad(), cut.autocast:
            after = backbone.after_last(level, y, *others) if gradients else y
        last = next(reversed(gradients), None)
        projected = projection(convolution, inner, cut.sketch) if cut.sketch and gradients else None
        shape = (convolution.out_channels, cut.sketch, 1) if cut.sketch else convolution.weight.shape
        for task in tasks:
            if task not in gradients:
                found[task].append(convolution.weight.new_zeros(shape))
                continue
            at_after = backbone.at_after_last(level, cut.leaves[level].detach(), gradients[task])
            (at_y,) = torch.autograd.grad(after, y, at_after.to(after.dtype), retain_graph=task != last)
            if projected is None:
                found[task].append(weight_gradient(convolution, inner, at_y))
            else:
                part = torch.bmm(at_y.flatten(2), projected.to(at_y.dtype)).sum(0)
                found[task].append(part[:, :, None].to(convolution.weight.dtype))
    return found


def _on_nearest_weights(cut: Cut, tasks: Sequence[str]) -> Rows:
    found: Rows = {task: [] for task in tasks}
    for level, weight in enumerate(nearest_weights(cut.pyramid)):
        if weight is None:
            continue
        gradients = _at_level(cut, level)
        for task in tasks:
            if task not in gradients:
                found[task].append(torch.zeros_like(weight))
                continue
            (row,) = torch.autograd.grad(cut.pyramid[level], weight, gradients[task], retain_graph=True)
            found[task].append(row)
    return found


def _on_features(cut: Cut, tasks: Sequence[str]) -> Rows:
    def at(task: str, level: int) -> Tensor:
        gradient = cut.found[task].at_cut[level] if task in cut.found else None
        whole = torch.zeros_like(cut.leaves[level]) if gradient is None else gradient
        return whole.float().movedim(1, 0)  # channels first, as a filter's outputs

    return {task: [at(task, level) for level in range(len(cut.leaves))] for task in tasks}


def _on_shared_parameters(cut: Cut, tasks: Sequence[str]) -> Rows:
    """The rows; the gradients are kept in `TaskGradient.encoder`, where the update finds them."""
    parameters = reached_parameters(cut.pyramid)
    last = next(reversed(cut.found), None)
    for task, found in cut.found.items():
        pairs = [
            (level, gradient)
            for level, gradient in zip(cut.pyramid, found.at_cut, strict=True)
            if gradient is not None and level.requires_grad
        ]
        if not pairs:
            continue
        gradients: Sequence[Tensor | None] = torch.autograd.grad(
            [level for level, _ in pairs],
            parameters,
            [gradient for _, gradient in pairs],
            retain_graph=task != last,
            allow_unused=True,
        )
        found.encoder = {p: g for p, g in zip(parameters, gradients, strict=True) if g is not None}

    def row(task: str) -> list[Tensor]:
        known = cut.found[task].encoder if task in cut.found else {}
        return [known[p].clone() if p in known else torch.zeros_like(p) for p in parameters]

    return {task: row(task) for task in tasks}


def weight_gradient(convolution: nn.Conv3d, inner: Tensor, at_output: Tensor) -> Tensor:
    """Gradient ``(out, in, kx, ky, kz)`` of a convolution's weight.

    Args:
        convolution: the module.
        inner: what it read, ``(N, in, X, Y, Z)``.
        at_output: gradient at its output.
    """
    assert isinstance(convolution.padding, tuple)
    assert convolution.padding_mode == "zeros"
    found: Tensor = conv3d_weight(
        inner.to(at_output.dtype),
        list(convolution.weight.shape),
        at_output,
        stride=convolution.stride,
        padding=convolution.padding,
        dilation=convolution.dilation,
        groups=convolution.groups,
    )
    return found.to(convolution.weight.dtype)


@torch.no_grad()
def projection(convolution: nn.Conv3d, inner: Tensor, size: int) -> Tensor:
    """What a convolution reads, through ``size`` random filters of the same kernel: ``(N, voxels, size)``.

    The gradient on the weight is a sum over voxels of the output's gradient times what was read. Multiplied
    with these instead, it is that gradient times a random matrix of signs, fixed for each size of weight, and
    inner products of such gradients are those of the whole ones up to about 1 / sqrt(filters x size) (Johnson
    and Lindenstrauss 1984). The projection is linear, so opposed gradients stay exactly opposed.
    """
    assert isinstance(convolution.padding, tuple)
    assert convolution.groups == 1
    generator = torch.Generator().manual_seed(convolution.weight.numel())
    signs = torch.randint(0, 2, (size, *convolution.weight.shape[1:]), generator=generator) * 2 - 1
    filters = (signs / math.sqrt(size)).to(inner.dtype).to(inner.device, non_blocking=True)
    found = nn.functional.conv3d(
        inner, filters, None, convolution.stride, convolution.padding, convolution.dilation
    )
    return found.flatten(2).transpose(1, 2)


def reached_parameters(outputs: Sequence[Tensor]) -> list[nn.Parameter]:
    """Parameters that a backward from these tensors would reach, in an order that follows from the graph."""
    nodes = [output.grad_fn for output in outputs if output.grad_fn is not None]
    seen, parameters = set(nodes), []
    while nodes:
        node = nodes.pop()
        variable = getattr(node, "variable", None)
        if isinstance(variable, nn.Parameter):
            parameters.append(variable)
        for below, _ in node.next_functions:
            if below is not None and below not in seen:
                seen.add(below)
                nodes.append(below)
    return parameters


def nearest_weights(pyramid: Sequence[Tensor]) -> list[nn.Parameter | None]:
    """For each level the matrix or kernel with the fewest operations between it and the level's features.

    Between two levels only: where nothing that learns lies directly before a level, it has None.
    """
    ends = {level.grad_fn for level in pyramid if level.grad_fn is not None}
    found: list[nn.Parameter | None] = []
    for level in pyramid:
        nodes = deque([] if level.grad_fn is None else [level.grad_fn])
        seen = set(nodes)
        weight: nn.Parameter | None = None
        while nodes and weight is None:
            node = nodes.popleft()
            variable = getattr(node, "variable", None)
            if isinstance(variable, nn.Parameter) and variable.ndim >= 2:
                weight = variable
            for below, _ in node.next_functions:
                if below is not None and below not in seen and below not in ends:
                    seen.add(below)
                    nodes.append(below)
        found.append(weight)
    return found
