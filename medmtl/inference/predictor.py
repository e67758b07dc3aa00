"""A prepared case through the network: the rule by which local and global tasks see a volume.

1. Where the volume fits the patch, both see the same tensor, and the encoder runs once per frame.
2. Where it does not, sliding windows over three of the frames find the organ (the largest connected part
   of all that the model's segmentations, asked for or not, see in any of them). Training shows patches around
   the organ, so prediction does as well: if the organ fits one patch, all frames are read from the patch
   around it, and outside there is background, or NaN in a map. If it does not fit, or the model segments
   nothing, dense tasks come from sliding windows over all frames.
3. Case tasks with a global view look at the whole volume in one pass, made coarser (`medmtl.data.overview`):
   alone where they read no masks, otherwise beside the patch in which the masks are read.
4. Case tasks with a local view whose head reads no masks see the middle of the image: finding the organ takes
   the decoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from medmtl.data.prepare import PreparedCase, back_to_source
from medmtl.inference.context import Context
from medmtl.inference.measure.spread import mask_spread, value_spread
from medmtl.inference.patch import Placement, one_pass, place, whole_pass
from medmtl.inference.windows import slide_windows
from medmtl.tasks import CaseResult, Task
from medmtl.tasks.base import CaseValues

__all__ = ["Context", "predict_prepared"]

PROBES = 3
"""Frames on which the organ is looked for."""
FRAMES_BACK = 4
"""Frames that go back to the files' grid together; those of all frames on that grid would fill the memory."""


@dataclass(frozen=True)
class _Organ:
    """Where the organ lies: the voxel in its middle, and how many voxels it is wide along each axis."""

    centre: tuple[float, float, float]
    extent: tuple[int, int, int]


@torch.inference_mode()
def predict_prepared(
    context: Context, case: PreparedCase, names: Sequence[str], *, on_source_grid: bool = True
) -> CaseResult:
    """Everything the asked tasks say of one case; what a task says does not depend on which others are asked.

    An ensemble says the mean of its members: of probabilities and values per voxel before they are decoded,
    of probabilities and values per case after.

    Args:
        context: network, tasks and device.
        case: a prepared case; labels in it are not looked at.
        names: tasks wanted.
        on_source_grid: labels and maps on the grid of the files (else on the network's grid).
    """
    said = [_one_member(member, case, names) for member in context.members]
    result = CaseResult()
    for name in said[0].stitched:
        parts = [member.stitched[name] for member in said]
        stitched = parts[0] if len(parts) == 1 else torch.stack(parts).nanmean(0)
        if len(parts) > 1 and name in names:
            result.spread |= _spread(context.tasks[name], parts, stitched)
        result.dense[name] = _decode(context, stitched, case, name, result.dense, on_source_grid)
    for name in said[0].values:
        members = [member.values[name] for member in said]
        result.values[name] = context.tasks[name].combine(members)
        if len(members) > 1 and name in names:
            result.spread[name] = value_spread(members)
    result.dense = {name: volume for name, volume in result.dense.items() if name in names}
    result.values = {name: values for name, values in result.values.items() if name in names}
    return result


def _spread(task: Task, parts: Sequence[Tensor], stitched: Tensor) -> dict[str, dict[str, float]]:
    """How far the members' masks are apart, on the network's grid; tissues and maps are not compared."""
    if not task.structures or task.reads:
        return {}
    masks = [task.decode_dense(part, {}) for part in parts]
    labels = task.columns[task.targets[0]].labels
    return {task.name: mask_spread(masks, task.decode_dense(stitched, {}), labels)}


@dataclass(frozen=True)
class _Said:
    """What one network says: dense tasks on its grid ``(T, C, X, Y, Z)``, hosts first, values per case."""

    stitched: dict[str, Tensor]
    values: dict[str, CaseValues]


def _one_member(context: Context, case: PreparedCase, names: Sequence[str]) -> _Said:
    network, tasks, patch = context.network, context.tasks, context.preparation.patch
    needed = network.needed(names)
    dense = [name for name in needed if tasks[name].dense]
    readers = [name for name in needed if not tasks[name].dense and network.head(name).reads_masks]
    others = [name for name in needed if not tasks[name].dense and name not in readers]
    shape = tuple(int(size) for size in case.image.shape[2:])
    middle = place(patch, shape, [(size - 1) / 2 for size in shape])
    if all(size <= limit for size, limit in zip(shape, patch, strict=True)):
        found, outputs = one_pass(context, case, middle, dense, [*readers, *others])
        stitched = {name: part[(..., *middle.in_patch)] for name, part in found.items()}
    else:
        wide = [name for name in others if context.sees_whole(name)]
        outputs = whole_pass(context, case, wide) if wide else {}
        others = [name for name in others if name not in wide]
        outputs |= one_pass(context, case, middle, [], others)[1] if others else {}
        stitched, more = _around_the_organ(context, case, dense, readers)
        outputs |= more
    values = {name: tasks[name].decode_case(output)[0] for name, output in outputs.items()}
    return _Said({name: stitched[name] for name in dense}, values)


def _around_the_organ(
    context: Context, case: PreparedCase, dense: Sequence[str], readers: Sequence[str]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Rule 2: dense tasks on the whole grid ``(T, C, X, Y, Z)``, and outputs of the heads that read masks."""
    if not dense:
        return {}, {}
    tasks, patch = context.tasks, context.preparation.patch
    finders = [name for name, task in tasks.items() if task.structures and not task.reads]
    shape = tuple(int(size) for size in case.image.shape[2:])
    last = case.n_frames - 1
    probes = sorted({round(i * last / (PROBES - 1)) for i in range(PROBES)})
    organ = _find_organ(context, slide_windows(context, case.image[probes], finders), shape)
    around = place(patch, shape, organ.centre)
    if finders and all(size <= limit for size, limit in zip(organ.extent, patch, strict=True)):
        found, outputs = one_pass(context, case, around, dense, readers)
        return {
            name: _surround(part, around, shape, tasks[name].outside) for name, part in found.items()
        }, outputs
    outputs = one_pass(context, case, around, [], readers)[1] if readers else {}
    return slide_windows(context, case.image, dense), outputs


def _find_organ(context: Context, stitched: Mapping[str, Tensor], shape: Sequence[int]) -> _Organ:
    """The largest connected part of all that is segmented, over all frames; else the middle of the image."""
    seen = np.zeros(tuple(shape), dtype=bool)
    for name, volume in stitched.items():
        task = context.tasks[name]
        if task.structures and not task.reads:
            seen |= (task.decode_dense(volume, {}) > 0).any(axis=0)
    labels, count = ndimage.label(seen)
    if count == 0:
        x, y, z = shape
        return _Organ(((x - 1) / 2, (y - 1) / 2, (z - 1) / 2), (0, 0, 0))
    largest = int(np.bincount(labels.ravel())[1:].argmax())
    box = ndimage.find_objects(labels)[largest]
    x, y, z = ((axis.start + axis.stop - 1) / 2 for axis in box)
    a, b, c = (axis.stop - axis.start for axis in box)
    return _Organ((x, y, z), (a, b, c))


def _surround(part: Tensor, placement: Placement, shape: Sequence[int], outside: Sequence[float]) -> Tensor:
    """What a patch said ``(T, C, *patch)`` in its place on the whole grid; ``outside`` or NaN elsewhere."""
    t, c = part.shape[:2]
    values = part.new_tensor(outside) if outside else part.new_full((c,), torch.nan)
    whole = values[None, :, None, None, None].repeat(t, 1, *shape)
    whole[(..., *placement.in_volume)] = part[(..., *placement.in_patch)]
    return whole


def _decode(
    context: Context,
    stitched: Tensor,
    case: PreparedCase,
    name: str,
    decoded: Mapping[str, np.ndarray],
    on_source_grid: bool,
) -> np.ndarray:
    if not on_source_grid:
        return context.tasks[name].decode_dense(stitched, decoded)
    found: list[np.ndarray] = []
    for first in range(0, len(stitched), FRAMES_BACK):
        part = stitched[first : first + FRAMES_BACK]
        moved = back_to_source(part.flatten(0, 1), case.affine, case.source).unflatten(0, part.shape[:2])
        hosts = {host: labels[first : first + FRAMES_BACK] for host, labels in decoded.items()}
        found.append(context.tasks[name].decode_dense(moved, hosts))
    return np.concatenate(found)
