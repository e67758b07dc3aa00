"""One trunk, any number of heads; only what the asked tasks need is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from medmtl.models.backbone import Backbone
from medmtl.models.case_head import CaseHead
from medmtl.models.features import Features
from medmtl.models.heads import Head
from medmtl.types import ConfigError

Output = Tensor | list[Tensor]


class MultiTaskNetwork(nn.Module):
    """A backbone shared by the heads of all tasks (hard parameter sharing, Caruana 1997).

    Args:
        backbone: the shared trunk.
        heads: by task name, in any order; a head that reads masks runs after the head that makes them.

    Raises:
        ConfigError: heads read each other's masks in a circle.
    """

    def __init__(self, backbone: Backbone, heads: Mapping[str, Head]) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict(heads)
        self._encode: Callable[[Tensor], list[Tensor]] = backbone.encode
        self._decode: Callable[[Sequence[Tensor]], list[Tensor]] = backbone.decode
        self._order = self._by_dependency(heads)

    @staticmethod
    def _by_dependency(heads: Mapping[str, Head]) -> tuple[str, ...]:
        order: list[str] = []

        def visit(task: str, readers: tuple[str, ...]) -> None:
            if task in readers:
                circle = " reads ".join(repr(name) for name in (*readers[readers.index(task) :], task))
                raise ConfigError(f"tasks read each other's masks in a circle: {circle}; remove one of these")
            for needed in heads[task].reads_masks:
                visit(needed, (*readers, task))
            if task not in order:
                order.append(task)

        for task in heads:
            visit(task, ())
        return tuple(order)

    def head(self, task: str) -> Head:
        """The head of a task."""
        head = self.heads[task]
        assert isinstance(head, Head)
        return head

    def needed(self, tasks: Iterable[str]) -> tuple[str, ...]:
        """The asked tasks and those whose masks they read, in the order in which they run."""
        wanted = set(tasks)
        for task in reversed(self._order):
            if task in wanted:
                wanted.update(self.head(task).reads_masks)
        return tuple(task for task in self._order if task in wanted)

    def compile_trunk(self) -> None:
        """Compile encoder and decoder; worth its minute on a GPU."""
        self._encode = torch.compile(self.backbone.encode)
        self._decode = torch.compile(self.backbone.decode)

    def features(
        self, image: Tensor, case_of_frame: Tensor, spacing_mm: Tensor, covariates: Tensor
    ) -> Features:
        """Run the encoder on ``(N, C, X, Y, Z)``; the decoder waits until a head asks."""
        return Features(self._encode(image), self._decode, case_of_frame, spacing_mm, covariates)

    def run_dense(self, features: Features, needed: Sequence[str]) -> dict[str, Output]:
        """Outputs of the dense heads among the ``needed`` tasks; masks that are read go into ``features``."""
        outputs: dict[str, Output] = {}
        read = {name for task in needed for name in self.head(task).reads_masks}
        for task in needed:
            head = self.head(task)
            if isinstance(head, CaseHead):
                continue
            outputs[task] = head(features)
            if task in read:
                masks = head.masks(outputs[task], features)
                assert masks is not None, f"task {task!r} makes no masks that others could read"
                features.masks[task] = masks
        return outputs

    def run_heads(self, features: Features, tasks: Iterable[str]) -> dict[str, Output]:
        """Outputs of the asked tasks, and of those whose masks they read."""
        needed = self.needed(tasks)
        outputs = self.run_dense(features, needed)
        outputs.update({task: self.head(task)(features) for task in needed if task not in outputs})
        return outputs

    def forward(
        self,
        image: Tensor,
        case_of_frame: Tensor,
        spacing_mm: Tensor,
        covariates: Tensor,
        tasks: Iterable[str] | None = None,
    ) -> dict[str, Output]:
        """All asked tasks (all by default) of a batch; shapes as in `medmtl.types.Batch`."""
        features = self.features(image, case_of_frame, spacing_mm, covariates)
        return self.run_heads(features, self._order if tasks is None else tasks)
