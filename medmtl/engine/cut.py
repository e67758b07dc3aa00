"""The cut: every task's backward runs down to the encoder's pyramid, the encoder's own backward runs once.

```text
image ─▶ encoder ─▶ pyramid ┆ leaves ─▶ decoder, head ─▶ loss of task i
                            cut
```

Below the cut each task's gradient c_i is known apart, so that it can be compared (`medmtl.engine.comparison`)
and weighted; the encoder then gets sum_i w_i c_i in one pass. All levels of the pyramid are cut, so skip
connections are cut too. With one dense task, or a decoder per dense task, this costs what one joint backward
costs; a decoder that D tasks share runs its backward D times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn

from medmtl.engine import comparison, ranks
from medmtl.models import NOTHING_SHARED, Branches, Features, MultiTaskNetwork
from medmtl.types import ConfigError
from medmtl.weighting import Gradients, GradientWeighting, Weighting

SKETCH = 8
"""Projections of each filter's gradient, unless a method says otherwise."""


@dataclass
class TaskGradient:
    """Gradient of one task's loss.

    Attributes:
        at_cut: for each pyramid level, the gradient there, or None where the task does not read it.
        beyond: gradients of what lies between loss and cut: head and decoder.
        encoder: gradients of the encoder's parameters, where they were asked for.
    """

    at_cut: list[Tensor | None]
    beyond: dict[nn.Parameter, Tensor]
    encoder: dict[nn.Parameter, Tensor] = field(default_factory=dict)


class Cut:
    """One forward pass that is cut at the pyramid; called with its features, gives those behind the cut.

    Args:
        model: the network.
        on: ``last_layers``, ``features`` or ``shared_parameters``.
        sketch: on ``last_layers``, compare random projections of each filter's gradient to so many numbers; 0
            compares the gradients themselves, and None projects where the backbone opens its levels.

    Attributes:
        opened: whether the forward pass has to keep what lies around the last convolutions.
        pyramid: the levels of the patches, then those of whole volumes where a task looks at these.
        level_of: the encoder's level of each.

    Raises:
        ConfigError: the backbone cannot open its last convolutions, where that is needed, or no two tasks
            share a weight on which they could be compared.
    """

    def __init__(self, model: MultiTaskNetwork, on: str = "last_layers", sketch: int | None = 0) -> None:
        self.model, self.on = model, on
        self.opened = on == "last_layers" and model.backbone.opens()
        self.sketch = (SKETCH if self.opened else 0) if sketch is None else sketch
        if on == "last_layers" and not self.opened and (self.sketch or model.compiled):
            raise ConfigError(
                f"backbone {type(model.backbone).__name__} does not open its last convolutions, which a "
                "sketch and a compiled trunk need; leave out weighting.sketch and training.compile, or set "
                "weighting.on to shared_parameters"
            )
        if isinstance(model.backbone, Branches) and not model.backbone.shares_weights:
            raise ConfigError(NOTHING_SHARED)
        self.found: dict[str, TaskGradient] = {}

    def __call__(self, features: Features) -> Features:
        """The same features with the pyramid cut off from the encoder, that of the second view too."""
        whole, first = features.whole, len(features.pyramid)
        self.pyramid, self.parts = list(features.pyramid), list(features.opened)
        self.level_of = list(range(first))
        if whole is not None:
            self.pyramid += whole.pyramid
            self.parts += whole.opened
            self.level_of += range(len(whole.pyramid))
        self.leaves = [level.detach().requires_grad_() for level in self.pyramid]
        device = self.pyramid[0].device.type
        self.autocast = torch.autocast(
            device, dtype=torch.get_autocast_dtype(device), enabled=torch.is_autocast_enabled(device)
        )
        if whole is not None:
            whole = replace(whole, pyramid=self.leaves[first:])
        return replace(features, pyramid=self.leaves[:first], whole=whole)

    def pull(self, losses: Mapping[str, Tensor]) -> None:
        """Run every task's backward down to the cut."""
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        dense = self.model.dense_tasks(losses)
        share_graph = dense[:-1] if self.model.shared_decoder_passes(losses) else []
        for name, loss in losses.items():
            if not loss.requires_grad:
                self.found[name] = TaskGradient([None] * len(self.leaves), {})
                continue
            gradients: Sequence[Tensor | None] = torch.autograd.grad(
                loss, [*self.leaves, *parameters], retain_graph=name in share_graph, allow_unused=True
            )
            count = len(self.leaves)
            own = zip(parameters, gradients[count:], strict=True)
            beyond = {p: g for p, g in own if g is not None}
            self.found[name] = TaskGradient(_apart(gradients[:count]), beyond)

    def compare(self, tasks: Sequence[str], scale: Tensor | None = None) -> Gradients:
        """Inner products of the tasks' gradients, over all ranks.

        Args:
            tasks: every task with a label on any rank.
            scale: what the losses were multiplied with (a gradient scaler's), taken out before comparing.
        """
        rows = comparison.rows(self, tasks)
        if scale is not None:
            rows = {task: [part.float() / scale for part in parts] for task, parts in rows.items()}
        if self.on == "features":
            return ranks.joined(Gradients.of(rows))  # each rank has samples of its own
        ranks.average([part for parts in rows.values() for part in parts])
        return Gradients.of(rows)

    def push(self, weights: Mapping[str, Tensor], *, weigh_heads: bool, share: float = 1.0) -> None:
        """Add the weighted gradients to every parameter's ``grad``; the encoder's backward runs once.

        The gradients at the cut are used up.

        Args:
            weights: of the tasks that take part; parameters that only others reach keep their ``grad``.
            weigh_heads: weigh heads and decoders like the encoder.
            share: factor of everything.
        """
        taking_part = {task: found for task, found in self.found.items() if task in weights}
        encoder: list[Tensor | None] = [None] * len(self.leaves)
        for task, found in taking_part.items():
            if found.encoder:
                continue
            _scale([g for g in found.at_cut if g is not None], weights[task] * share)
            for level, at_level in enumerate(found.at_cut):
                if at_level is not None:
                    before = encoder[level]
                    encoder[level] = at_level if before is None else before.add_(at_level)
                    found.at_cut[level] = at_level = None  # the finest level's is as large as its features
        reached = [
            (level, gradient)
            for level, gradient in zip(self.pyramid, encoder, strict=True)
            if gradient is not None and level.requires_grad
        ]
        if reached:
            torch.autograd.backward([level for level, _ in reached], [gradient for _, gradient in reached])
        for task, found in taking_part.items():
            weight = weights[task] * share
            _add(found.beyond, weight if weigh_heads else share)
            _add(found.encoder, weight)


def backward(
    cut: Cut,
    losses: Mapping[str, Tensor],
    observed: Mapping[str, Tensor],
    weighting: Weighting,
    *,
    scaler: torch.amp.GradScaler | None = None,
    share: float = 1.0,
) -> tuple[Tensor, Gradients | None]:
    """Weigh the tasks' gradients and add them to every ``grad``; the counterpart of ``total.backward()``.

    Any weighting may be used: one that looks at losses alone gives the gradient that its total has, and the
    comparison is a by-product.

    Args:
        cut: through which the losses were computed.
        losses: ``()`` loss of each task with labels on this rank.
        observed: losses averaged over all ranks.
        weighting: the method.
        scaler: of fp16 gradients.
        share: factor of the update, for one of several micro-batches.

    Returns:
        The weighted total, detached, and the comparison, or None where a schedule leaves out all tasks.
    """
    device = next(iter(observed.values())).device
    scale = None if scaler is None else scaler.scale(torch.ones((), device=device))
    due = weighting.due(observed)
    cut.pull({name: loss if scale is None else loss * scale for name, loss in losses.items() if name in due})
    gradients = cut.compare(due, scale) if due else None
    if isinstance(weighting, GradientWeighting):
        push = partial(cut.push, weigh_heads=weighting.weighs_heads, share=share)
        if gradients is not None and scale is not None and not bool(gradients.finite().all()):
            push({name: torch.ones((), device=device) for name in due})
            return torch.full((), torch.nan, device=device), gradients  # the scaler skips this step
        total = weighting(losses, observed=observed, gradients=gradients, push=push)
    else:
        total = weighting({name: loss.detach() for name, loss in losses.items()}, observed=observed)
        if total.requires_grad:  # a learned method's parameters
            (total * share if scale is None else total * share * scale).backward()
        cut.push(weighting.weights, weigh_heads=True, share=share)
    return total.detach(), gradients


def _apart(gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Each contiguous and in memory of its own.

    A skip connection's is a part of something larger, which it would keep, and is slow to read as it is.
    """
    taken: set[int] = set()
    found: list[Tensor | None] = []
    for gradient in gradients:
        whole = None if gradient is None else gradient.contiguous()
        if whole is not None and whole.data_ptr() in taken:
            whole = whole.clone()
        if whole is not None:
            taken.add(whole.data_ptr())
        found.append(whole)
    return found


def _scale(gradients: list[Tensor], factor: Tensor) -> None:
    """Multiply gradients by a factor, rounded to their precision, in place and in one launch."""
    if gradients:
        torch._foreach_mul_(gradients, factor.to(gradients[0].dtype))


def _add(gradients: Mapping[nn.Parameter, Tensor], factor: Tensor | float) -> None:
    """Add gradients times a factor to every ``grad``, in as few launches as it takes."""
    parts = list(gradients.values())
    if parts and not (isinstance(factor, float) and factor == 1):
        parts = list(torch._foreach_mul(parts, factor))
    for parameter, gradient in zip(gradients, parts, strict=True):
        parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
