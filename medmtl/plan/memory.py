"""What training takes in memory: counted on the network itself, without computing anything.

The network runs forward on PyTorch's meta device, where tensors have shapes and no values, and every tensor
that autograd would keep for the backward pass is counted. So the estimate holds for any backbone and any
patch. On top come two of the largest feature maps (gradients on their way), softmax and one-hot labels of the
dense heads, 20 bytes per weight (weight, gradient, two moments, moving average) and a fixed part for the
runtime (CUDA context, cuDNN's work space, fragmentation). What it leaves out: a compiler that keeps less, and
augmentation on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import yaml

from medmtl.models import BACKBONES, Branches

GIB = 2**30
FIXED = 1 * GIB
"""Of the runtime, whatever is trained."""
PER_WEIGHT = 20
"""Bytes: weight, gradient, two moments of AdamW and the moving average, in float32."""
IN_FLIGHT = 2
"""Feature maps of the largest size that exist beside what is kept, while gradients flow back."""
PER_LOGIT = 24
"""Bytes per voxel and class: logits, probabilities, one-hot labels and their gradients in float32."""


@dataclass(frozen=True)
class Need:
    """Memory that one training step takes.

    Attributes:
        kept: bytes that autograd keeps per volume (a frame in a patch).
        per_volume: bytes per volume in all.
        fixed: bytes whatever the batch.
        weights: number of weights.
    """

    kept: int
    per_volume: int
    fixed: int
    weights: int

    def of(self, volumes: float) -> int:
        """Bytes of a step with so many volumes."""
        return int(self.fixed + volumes * self.per_volume)

    def volumes_in(self, memory: int) -> int:
        """How many volumes fit into so many bytes."""
        return max(0, (memory - self.fixed) // self.per_volume)


def training_need(
    backbone: Mapping[str, Any],
    patch: Sequence[int],
    *,
    channels: int,
    value_bytes: int = 4,
    dense_channels: int = 0,
    decoders: int = 1,
) -> Need | None:
    """Memory of a training step.

    Args:
        backbone: ``type`` and arguments, complete.
        patch: ``(X, Y, Z)`` voxels.
        channels: of the image.
        value_bytes: 4 in float32, 2 where mixed precision is used.
        dense_channels: classes and maps that the dense heads say of each voxel, together.
        decoders: dense tasks, where each has a decoder of its own.

    Returns:
        the estimate, or None for a backbone that does not run without values.
    """
    text = yaml.safe_dump(dict(backbone), sort_keys=True)
    counted = _count(text, tuple(int(p) for p in patch), channels, value_bytes, decoders)
    if counted is None:
        return None
    kept, largest, weights = counted
    voxels = int(patch[0]) * int(patch[1]) * int(patch[2])
    logits = PER_LOGIT * dense_channels * voxels
    return Need(kept, kept + IN_FLIGHT * largest + logits, FIXED + PER_WEIGHT * weights, weights)


@lru_cache(maxsize=32)
def divisor_of(backbone: str, channels: int) -> tuple[int, int, int]:
    """What each side of a patch must be a multiple of, for a backbone that is not shaped by the data.

    Args:
        backbone: its section, as YAML.
        channels: of the image.
    """
    options = dict(yaml.safe_load(backbone))
    options.pop("sharing", None)  # every branch has the same strides
    cls: Any = BACKBONES.get(str(options.pop("type")))
    with torch.device("meta"):
        x, y, z = cls(in_channels=channels, **options).divisor
    return (x, y, z)


@lru_cache(maxsize=256)
def _count(
    backbone: str, patch: tuple[int, ...], channels: int, value_bytes: int, decoders: int
) -> tuple[int, int, int] | None:
    """Bytes kept for the backward pass of one volume, bytes of its largest part, and weights."""
    options = dict(yaml.safe_load(backbone))
    sharing = options.pop("sharing", None) or {}
    groups = sharing.get("groups") or [[]]
    cls: Any = BACKBONES.get(str(options.pop("type", "unet")))
    dtype = torch.bfloat16 if value_bytes == 2 else torch.float32
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage  # held, so that no later one gets the same address
        return tensor

    try:
        with torch.device("meta"):
            network = Branches(
                lambda: cls(in_channels=channels, **options),
                groups,
                shared_levels=int(sharing.get("shared_levels", 0)),
            ).to(dtype)
            image = torch.empty((1, channels, *patch), dtype=dtype)
            ways_up: list[Any] = [network.branch(index).decode for index in range(len(groups))]
            if network.separate_decoders:
                ways_up = [network.build_decoder().to(dtype) for _ in range(max(1, decoders))]
        forgotten = _Forgotten(kept, keep)
        for module in [*network.branches, *ways_up]:
            if getattr(module, "checkpointing", False):
                module.run = forgotten.run
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            pyramid = network.encode(image)
            for number, decode in enumerate(ways_up):
                decode(network.of_branch(number % len(groups), pyramid))
    except RuntimeError as error:  # NotImplementedError is one
        if not isinstance(error, NotImplementedError) and "meta" not in str(error):
            raise
        return None  # it needs values, which a tensor on the meta device has not
    modules = [network, *(way for way in ways_up if isinstance(way, torch.nn.Module))]
    parameters = [p for module in modules for p in module.parameters()]
    own = {p.untyped_storage()._cdata for p in parameters}
    left_out = own | forgotten.addresses
    sizes = [storage.nbytes() for address, storage in kept.items() if address not in own]
    stays = sum(storage.nbytes() for address, storage in kept.items() if address not in left_out)
    return stays + forgotten.largest, max(sizes, default=0), sum(p.numel() for p in parameters)


class _Forgotten:
    """What blocks keep inside that are computed again: of all of them, only the largest exists at a time.

    Args:
        kept: what autograd keeps, by address; grows.
        keep: notes a tensor there.
    """

    def __init__(
        self, kept: Mapping[int, torch.UntypedStorage], keep: Callable[[torch.Tensor], torch.Tensor]
    ) -> None:
        self._kept, self._keep = kept, keep
        self._inside: set[int] = set()
        self._between: set[int] = set()
        self.largest = 0

    @property
    def addresses(self) -> set[int]:
        """What is forgotten: what lies inside blocks and is not read by another."""
        return self._inside - self._between

    def run(self, block: Callable[..., Any], *inputs: torch.Tensor) -> Any:
        """Run a block and note what it keeps."""
        for tensor in inputs:
            self._keep(tensor)
            self._between.add(tensor.untyped_storage()._cdata)
        before = set(self._kept)
        found = block(*inputs)
        new = self._kept.keys() - before
        self._inside |= new
        self.largest = max(self.largest, sum(self._kept[address].nbytes() for address in new))
        return found
