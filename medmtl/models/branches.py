"""Backbones that only some tasks share: one for each group of tasks, on a stem of levels that all may share.

To the rest of medmtl it is one backbone with a longer pyramid: the stem's levels, then each branch's own. A
task sees the stem and the levels of its branch (`of_branch`), so that the cut, the comparison of gradients
and the update need to know nothing of branches: a task has no gradient on a branch that is not its own.

```text
image ─▶ stem ─┬▶ branch 0 ─▶ levels 0 ┆ decoder 0 ─▶ tasks of group 0
               └▶ branch 1 ─▶ levels 1 ┆ decoder 1 ─▶ tasks of group 1
```
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

import torch
from torch import Tensor, nn

from medmtl.models.backbone import Backbone
from medmtl.types import ConfigError

Opened = list[tuple[Tensor, ...]]
NOTHING_SHARED = (
    "no two tasks share a weight, so there is nothing on which their gradients could be compared; use a "
    "weighting of losses and no gradient_diagnostics, or another sharing"
)


class Branches(Backbone):
    """One backbone per group of tasks.

    Args:
        build: makes a backbone; called once per group.
        groups: names of the tasks of each group; every task in one.
        shared_levels: so many levels of the encoder, the finest ones, are shared by all tasks.
        strength: what the weights of all branches are pulled to their mean with, see `pull_together`.

    Raises:
        ConfigError: levels are to be shared that there are not, or by a backbone that cannot be split.
    """

    def __init__(
        self,
        build: Callable[[], Backbone],
        groups: Sequence[Sequence[str]],
        *,
        shared_levels: int = 0,
        strength: float = 0.0,
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(build() for _ in groups)
        self.groups = tuple(tuple(group) for group in groups)
        self.shared_levels, self.strength = shared_levels, strength
        first = self.branch(0)
        self.pyramid_channels, self.decoded_channels = first.pyramid_channels, first.decoded_channels
        self.strides, self.separate_decoders = first.strides, first.separate_decoders
        if shared_levels >= len(self.strides):
            raise ConfigError(
                f"sharing.shared_levels: {shared_levels} of the {len(self.strides)} levels leave nothing to "
                "the groups; share fewer, or use sharing.type: hard"
            )
        if strength:  # branches that are pulled together begin together
            for other in self.branches[1:]:
                other.load_state_dict(first.state_dict())
        for index in range(1, len(self.branches)):
            for level in range(shared_levels):
                self.branch(index).drop_level(level)

    def branch(self, index: int) -> Backbone:
        """The backbone of a group; the first one's finest levels are those that all share."""
        found = self.branches[index]
        assert isinstance(found, Backbone)
        return found

    def branch_of(self, task: str) -> int:
        """The group of a task."""
        return next(index for index, group in enumerate(self.groups) if task in group)

    def wanted(self, tasks: Iterable[str] | None) -> tuple[int, ...]:
        """The groups of some tasks; all groups by default."""
        if tasks is None:
            return tuple(range(len(self.groups)))
        return tuple(sorted({self.branch_of(task) for task in tasks}))

    @property
    def own_levels(self) -> int:
        """Levels that each branch has for itself."""
        return len(self.strides) - self.shared_levels

    def of_branch(self, index: int, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """The levels that the tasks of a group see, of all; of none, none."""
        start = self.shared_levels + index * self.own_levels
        return [*pyramid[: self.shared_levels], *pyramid[start : start + self.own_levels]]

    def _place(self, level: int) -> tuple[Backbone, int]:
        """The branch that a level of the whole pyramid belongs to, and which of its levels it is."""
        index, rest = divmod(max(0, level - self.shared_levels), self.own_levels)
        return self.branch(index), level if level < self.shared_levels else self.shared_levels + rest

    def encode(self, image: Tensor, wanted: Collection[int] | None = None) -> list[Tensor]:
        """All levels; those of branches that are not ``wanted`` are empty and cost nothing."""
        return self._encode(image, wanted, opened=False)[0]

    def encode_opened(
        self, image: Tensor, wanted: Collection[int] | None = None
    ) -> tuple[list[Tensor], Opened]:
        """See `Backbone.encode_opened`."""
        return self._encode(image, wanted, opened=True)

    def _encode(
        self, image: Tensor, wanted: Collection[int] | None, *, opened: bool
    ) -> tuple[list[Tensor], Opened]:
        pyramid: list[Tensor] = []
        parts: Opened = []
        if self.shared_levels:
            pyramid, parts = self.branch(0).encode_levels(image, 0, self.shared_levels, opened=opened)
            image = pyramid[-1]
        for index in range(len(self.branches)):
            own, own_parts = self._encode_branch(index, image, wanted, opened=opened)
            pyramid += own
            parts += own_parts
        return pyramid, parts

    def _encode_branch(
        self, index: int, x: Tensor, wanted: Collection[int] | None, *, opened: bool
    ) -> tuple[list[Tensor], Opened]:
        if wanted is not None and index not in wanted:
            nothing = x.new_empty(0)
            return [nothing] * self.own_levels, [(nothing,) * 4] * self.own_levels if opened else []
        branch = self.branch(index)
        if self.shared_levels:
            return branch.encode_levels(x, self.shared_levels, len(self.strides), opened=opened)
        return branch.encode_opened(x) if opened else (branch.encode(x), [])

    def decode(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Not without a task: every group has a decoder of its own."""
        raise TypeError("branches decode by group: use branch(index).decode(of_branch(index, pyramid))")

    def build_decoder(self) -> nn.Module:
        """A new decoder for one task, on the levels that it sees."""
        return self.branch(0).build_decoder()

    def opens(self) -> bool:
        """Whether its branches open their last convolutions."""
        return self.branch(0).opens()

    def last_convolution(self, level: int) -> nn.Conv3d:
        """See `Backbone.last_convolution`; of a level of the whole pyramid."""
        branch, own = self._place(level)
        return branch.last_convolution(own)

    def last_norm(self, level: int) -> nn.InstanceNorm3d:
        """See `Backbone.last_norm`."""
        branch, own = self._place(level)
        return branch.last_norm(own)

    def at_last_norm(self, level: int, features: Tensor, gradient: Tensor) -> Tensor:
        """See `Backbone.at_last_norm`."""
        branch, own = self._place(level)
        return branch.at_last_norm(own, features, gradient)

    @property
    def shares_weights(self) -> bool:
        """Whether some weight belongs to two tasks or more."""
        return self.shared_levels > 0 or any(len(group) > 1 for group in self.groups)

    def is_shared(self, level: int) -> bool:
        """Whether a level of the whole pyramid belongs to two tasks or more."""
        index = max(0, level - self.shared_levels) // self.own_levels
        return level < self.shared_levels or len(self.groups[index]) > 1

    def private_parameters(self) -> set[nn.Parameter]:
        """Parameters that one task has for itself: of the branch of a group of one, without the stem."""
        alone = [self.branch(index) for index, group in enumerate(self.groups) if len(group) == 1]
        stem = {p for level in range(self.shared_levels) for p in self.branch(0).level_parameters(level)}
        return {parameter for branch in alone for parameter in branch.parameters()} - stem

    @torch.no_grad()
    def pull_together(self) -> None:
        """Add the gradient of strength x sum over branches of |theta_b - mean theta|^2 to every grad.

        That is 2 strength (theta_b - mean theta), exactly: what moves with the mean cancels out. A branch
        whose tasks are absent keeps ``grad = None``.
        """
        if not self.strength:
            return
        alike: Iterable[tuple[nn.Parameter, ...]] = zip(
            *(branch.parameters() for branch in self.branches), strict=True
        )
        for parameters in alike:
            if all(parameter.grad is None for parameter in parameters):
                continue
            mean = torch.stack(list(parameters)).mean(0)
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.add_(parameter - mean, alpha=2 * self.strength)
