"""On what the tasks' gradients are compared: rows, one per task, whose inner products say how tasks agree.

- ``last_layers``: gradients of the weights of the last convolution before each pyramid level, by the direct
  path from that level. A level ends in p = activation(norm(conv(h)) + residual), so that gradient needs c_i
  at that level, the two tensors around conv and what the norm found, which the forward pass keeps; no graph
  of the encoder. What a level contributes through deeper levels is left out of the comparison (not of the
  update). A backbone that does not open its levels is compared by its graph, on the nearest weight behind
  each level's features. A task that sees whole volumes and one that sees patches meet on the same weights.
- ``features``: the c_i themselves. Two tasks that label different samples then look orthogonal however
  opposed they are, so it is refused unless all tasks label the same samples (`medmtl.engine.samples`).
- ``shared_parameters``: gradients on all encoder parameters, exact, one encoder backward per task.

Where groups of tasks have branches of their own (`medmtl.models.branches`), what two tasks or more share is
compared; a branch of one task alone is not, and neither tells nor asks the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.grad import conv3d_weight

from medmtl.engine.sketch import Sketch, Sums, sketched

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


def _at(cut: Cut, index: int) -> dict[str, Tensor]:
    """Gradients at one cut feature map, of the tasks that read it."""
    found = {task: found.at_cut[index] for task, found in cut.found.items()}
    return {task: gradient for task, gradient in found.items() if gradient is not None}


def _on_opened_layers(cut: Cut, tasks: Sequence[str]) -> Rows:
    """By level; what a level saw of patches and of whole volumes went through the same weight.

    Sketches, which have as many numbers per filter on every level, are one part of a row: all filters.
    """
    backbone = cut.model.backbone
    levels = [level for level in dict.fromkeys(cut.level_of) if backbone.is_shared(level)]
    weights = {level: backbone.last_convolution(level).weight for level in levels}
    places: list[tuple[str, int]] = []
    sums: list[tuple[Sketch, Sums]] = []
    parts: list[Tensor] = []
    for index, (level, (inner, y, *moments)) in enumerate(zip(cut.level_of, cut.parts, strict=True)):
        gradients = {task: g for task, g in _at(cut, index).items() if task in tasks}
        if level not in weights or not gradients:
            continue
        places += [(task, level) for task in gradients]
        features = cut.leaves[index].detach()
        at_norm = (backbone.at_last_norm(level, features, g) for g in gradients.values())  # one at a time
        layer = backbone.last_convolution(level), backbone.last_norm(level), inner, y
        if cut.sketch:
            sketch = Sketch(*layer, *moments, size=cut.sketch)
            sums += [(sketch, sketch(gradient)) for gradient in at_norm]
        else:
            whole = _Whole(*layer, cut)
            parts += [whole(gradient) for gradient in at_norm]
    known: dict[tuple[str, int], Tensor] = {}
    for place, part in zip(places, sketched(sums) if cut.sketch else parts, strict=True):
        known[place] = known[place] + part if place in known else part
    most = max((len(weight) for weight in weights.values()), default=0)
    nothing = cut.leaves[0].new_zeros((most, cut.sketch), dtype=torch.float32)

    def part_of(task: str, level: int) -> Tensor:
        if (task, level) in known:
            return known[task, level]
        return nothing[: len(weights[level])] if cut.sketch else torch.zeros_like(weights[level])

    rows = {task: [part_of(task, level) for level in weights] for task in tasks}
    if not cut.sketch or not weights:
        return rows
    return {task: [torch.cat(row)[:, :, None]] for task, row in rows.items()}


class _Whole:
    """The counterpart of `Sketch` for gradients as they are."""

    def __init__(
        self, convolution: nn.Conv3d, norm: nn.InstanceNorm3d, inner: Tensor, y: Tensor, cut: Cut
    ) -> None:
        self.convolution, self.inner = convolution, inner
        self.y = y.detach().requires_grad_()
        with torch.enable_grad(), cut.autocast:
            self.after = norm(self.y)

    def __call__(self, gradient: Tensor) -> Tensor:
        """``(F, in, kx, ky, kz)`` from the gradient at the norm's output."""
        (at_y,) = torch.autograd.grad(self.after, self.y, gradient.to(self.after.dtype), retain_graph=True)
        return weight_gradient(self.convolution, self.inner, at_y)


def _on_nearest_weights(cut: Cut, tasks: Sequence[str]) -> Rows:
    found: dict[str, dict[int, Tensor]] = {task: {} for task in tasks}
    weights: dict[int, nn.Parameter] = {}
    for index, (level, weight) in enumerate(zip(cut.level_of, nearest_weights(cut.pyramid), strict=True)):
        if weight is None or not cut.model.backbone.is_shared(level):
            continue
        weights[level] = weight
        gradients = _at(cut, index)
        for task in [task for task in tasks if task in gradients]:
            (row,) = torch.autograd.grad(cut.pyramid[index], weight, gradients[task], retain_graph=True)
            known = found[task].get(level)
            found[task][level] = row if known is None else known + row
    return {
        task: [own[n] if n in own else torch.zeros_like(weight) for n, weight in weights.items()]
        for task, own in found.items()
    }


def _on_features(cut: Cut, tasks: Sequence[str]) -> Rows:
    def at(task: str, level: int) -> Tensor:
        gradient = cut.found[task].at_cut[level] if task in cut.found else None
        whole = torch.zeros_like(cut.leaves[level]) if gradient is None else gradient
        return whole.float().movedim(1, 0)  # channels first, as a filter's outputs

    shared = [i for i, level in enumerate(cut.level_of) if cut.model.backbone.is_shared(level)]
    return {task: [at(task, index) for index in shared] for task in tasks}


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
        return [known[p].clone() if p in known else torch.zeros_like(p) for p in shared]

    private = cut.model.backbone.private_parameters()
    shared = [parameter for parameter in parameters if parameter not in private]
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
