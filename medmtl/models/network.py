"""One trunk, any number of heads; only what the asked tasks need is computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from medmtl.models.backbone import Backbone
from medmtl.models.branches import Branches
from medmtl.models.case_head import CaseHead
from medmtl.models.features import Features, Whole
from medmtl.models.heads import Head
from medmtl.types import ConfigError, Overview

Output = Tensor | list[Tensor]
Decode = Callable[[Sequence[Tensor]], list[Tensor]]


class MultiTaskNetwork(nn.Module):
    """A backbone shared by the heads of all tasks (hard parameter sharing, Caruana 1997).

    Where the backbone asks for separate decoders, every dense head reads the pyramid through one of its own.
    Where it has branches (`medmtl.models.branches`), a task sees, and pays for, its own alone.

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
        dense = [task for task, head in heads.items() if not isinstance(head, CaseHead)]
        own = dense if backbone.separate_decoders else []
        self.decoders = nn.ModuleDict({task: backbone.build_decoder() for task in own})
        branches: Iterable[Any] = () if self._branches is None else self._branches.branches
        self._encode: Callable[..., list[Tensor]] = backbone.encode
        self._encode_opened: Callable[..., Any] = backbone.encode_opened
        self._decode: Decode = backbone.decode
        self._decode_branch: list[Decode] = [branch.decode for branch in branches]
        self._decode_own: dict[str, Decode] = dict(self.decoders.items())
        self._order = self._by_dependency(heads)
        self.compiled = False

    @property
    def _branches(self) -> Branches | None:
        """The backbone, where groups of tasks have branches of it."""
        return self.backbone if isinstance(self.backbone, Branches) else None

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

    def compile_trunk(self, backend: str = "inductor", *, tasks_apart: bool = False) -> None:
        """Compile encoder and decoders; worth its minute on a GPU.

        Args:
            backend: of `torch.compile`.
            tasks_apart: the backward of a decoder that tasks share will run once for each of them, so that
                the first one must leave what it read to the next. For the whole process: PyTorch has no other
                switch.
        """
        self.compiled = True
        if tasks_apart and self.shared_decoder_passes(self.heads) > 1:
            torch._functorch.config.donated_buffer = False
        self._encode = torch.compile(self.backbone.encode, backend=backend)
        self._encode_opened = torch.compile(self.backbone.encode_opened, backend=backend)
        self._decode = torch.compile(self.backbone.decode, backend=backend)
        self._decode_branch = [torch.compile(decode, backend=backend) for decode in self._decode_branch]
        self._decode_own = {
            task: torch.compile(decoder, backend=backend) for task, decoder in self.decoders.items()
        }

    def all_decoders(self) -> list[Decode]:
        """The shared decoder, or those of the dense tasks."""
        if self._branches is not None:
            tasks = list(self.decoders) or [group[0] for group in self._branches.groups]
            return [partial(self._decode_for, task) for task in tasks]
        return list(self.decoders.values()) if self.backbone.separate_decoders else [self.backbone.decode]

    def dense_tasks(self, tasks: Iterable[str]) -> list[str]:
        """Those of the tasks whose heads read decoded features."""
        return [task for task in tasks if not isinstance(self.head(task), CaseHead)]

    def shared_decoder_passes(self, tasks: Iterable[str]) -> int:
        """How often the shared decoder's backward runs when these tasks' gradients are taken one by one.

        A joint backward runs it once. Separate decoders run once each either way, so they are not counted.
        """
        if self.backbone.separate_decoders:
            return 0
        dense = self.dense_tasks(tasks)
        if self._branches is None:
            return len(dense)
        return max(Counter(self._branches.branch_of(task) for task in dense).values(), default=0)

    def views(self, needed: Sequence[str], overview: Overview | None, n_frames: int) -> tuple[bool, bool]:
        """Whether some needed task looks at patches, and whether one looks at whole volumes apart from them.

        A volume that fits its patch has no overview: there the patch is both.

        Args:
            needed: tasks that run, from `needed`.
            overview: the whole volumes that there are.
            n_frames: of the batch.
        """
        heads = [self.head(task) for task in needed]
        globally = [head for head in heads if isinstance(head, CaseHead) and head.sees_whole]
        whole = overview is not None and bool(globally)
        covered = overview is not None and len(overview.frames) == n_frames
        return not whole or len(globally) < len(heads) or not covered, whole

    def features(
        self,
        image: Tensor | None,
        case_of_frame: Tensor,
        spacing_mm: Tensor,
        covariates: Tensor,
        *,
        seeds: Sequence[int] = (),
        opened: bool = False,
        overview: Overview | None = None,
        tasks: Iterable[str] | None = None,
    ) -> Features:
        """Run the encoder on ``(N, C, X, Y, Z)``; a decoder waits until a head asks.

        Args:
            image: all frames of all cases; None where no task looks at patches.
            case_of_frame: the case of each frame.
            spacing_mm: of each case.
            covariates: of each case.
            seeds: of each case, for dropout.
            opened: keep what it takes to compare gradients on the last convolution of each level.
            overview: whole volumes, which the same encoder sees apart; None where no task looks at them.
            tasks: those that will read; branches of none of these do not run. All by default.
        """
        branches = self._branches
        wanted = () if branches is None else (branches.wanted(tasks),)

        def encode(volumes: Tensor) -> tuple[list[Tensor], list[tuple[Tensor, ...]]]:
            return self._encode_opened(volumes, *wanted) if opened else (self._encode(volumes, *wanted), [])

        pyramid, parts = ([], []) if image is None else encode(image)
        whole = None
        if overview is not None:
            coarse, coarse_parts = encode(overview.image)
            whole = Whole(coarse, overview.frames, overview.spacing_mm, coarse_parts)
        return Features(
            pyramid, self._decode, case_of_frame, spacing_mm, covariates, seeds, opened=parts, whole=whole
        )

    def seen_by(self, task: str, features: Features) -> Features:
        """The features that a task reads: all, or those of its branch; masks and shapes are common."""
        if self._branches is None:
            return features
        index = self._branches.branch_of(task)
        if index not in features.views:
            whole = features.whole
            if whole is not None:
                whole = replace(whole, pyramid=self._branches.of_branch(index, whole.pyramid))
            pyramid = self._branches.of_branch(index, features.pyramid)
            features.views[index] = replace(
                features, pyramid=pyramid, decode=self._decode_branch[index], whole=whole
            )
        return features.views[index]

    def _decode_for(self, task: str, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """What the decoder that a dense task reads makes of the whole pyramid of all branches."""
        assert self._branches is not None
        index = self._branches.branch_of(task)
        decode = self._decode_own.get(task, self._decode_branch[index])
        return decode(self._branches.of_branch(index, pyramid))

    def run_dense(self, features: Features, needed: Sequence[str]) -> dict[str, Output]:
        """Outputs of the dense heads among the ``needed`` tasks; masks that are read go into ``features``."""
        outputs: dict[str, Output] = {}
        read = {name for task in needed for name in self.head(task).reads_masks}
        for task in needed:
            head = self.head(task)
            if isinstance(head, CaseHead):
                continue
            own, seen = self._decode_own.get(task), self.seen_by(task, features)
            outputs[task] = head(seen if own is None else seen.through(own))
            if task in read:
                masks = head.masks(outputs[task], seen)
                assert masks is not None, f"task {task!r} makes no masks that others could read"
                features.masks[task] = masks
        return outputs

    def run_heads(self, features: Features, tasks: Iterable[str]) -> dict[str, Output]:
        """Outputs of the asked tasks, and of those whose masks they read."""
        needed = self.needed(tasks)
        outputs = self.run_dense(features, needed)
        rest = [task for task in needed if task not in outputs]
        outputs.update({task: self.head(task)(self.seen_by(task, features)) for task in rest})
        return outputs

    def forward(
        self,
        image: Tensor,
        case_of_frame: Tensor,
        spacing_mm: Tensor,
        covariates: Tensor,
        tasks: Iterable[str] | None = None,
        *,
        seeds: Sequence[int] = (),
        cut: Callable[[Features], Features] | None = None,
        opened: bool = False,
        overview: Overview | None = None,
    ) -> dict[str, Output]:
        """All asked tasks (all by default) of a batch; shapes as in `medmtl.types.Batch`.

        Args:
            image: all frames of all cases.
            case_of_frame: the case of each frame.
            spacing_mm: of each case.
            covariates: of each case.
            tasks: those wanted.
            seeds: of each case, from which dropout follows; without them, from torch's global state.
            cut: takes the features and gives those that decoders and heads read; see `medmtl.engine.cut`.
            opened: keep for the cut what lies around the last convolutions.
            overview: whole volumes for the tasks with a global view. A view that no task wants does not run.
        """
        needed = self.needed(self._order if tasks is None else tasks)
        local, whole = self.views(needed, overview, len(case_of_frame))
        features = self.features(
            image if local else None,
            case_of_frame,
            spacing_mm,
            covariates,
            seeds=seeds,
            opened=opened,
            overview=overview if whole else None,
            tasks=needed if cut is None else None,  # all ranks are to compare the same weights
        )
        features = features if cut is None else cut(features)
        return self.run_heads(features, needed)
