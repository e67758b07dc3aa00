"""One array in one file: blosc2 frames of small chunks, so that a patch reads little more than itself.

The same numbers give the same bytes: one thread, a fixed codec and filter, nothing but the array in the
frame.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
from numpy.typing import NDArray

from medmtl.types import OutputError

CHUNK_VOXELS = 32**3
"""A random patch of 128^3 voxels touches chunks of 1.9 times its own size; smaller ones cost more per
chunk."""
SUFFIX = ".b2nd"


def chunk_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Chunks of one frame and channel, about 32 voxels along each of the last three axes.

    What an axis is shorter than that, the others are longer.
    """
    last = [max(1, n) for n in shape[-3:]]
    sides = [min(32, n) for n in last]
    for axis in sorted(range(len(last)), key=lambda a: last[a]):
        while sides[axis] < last[axis] and prod(sides) * 2 <= CHUNK_VOXELS:
            sides[axis] = min(2 * sides[axis], last[axis])
    return (*(1 for _ in shape[:-3]), *sides)


def packed(array: NDArray[Any]) -> bytes:
    """A frame that holds an array ``(..., X, Y, Z)``."""
    chunk = chunk_shape(array.shape)
    parameters = blosc2.CParams(
        codec=blosc2.Codec.ZSTD,
        clevel=1,
        filters=[blosc2.Filter.BITSHUFFLE],
        filters_meta=[0],
        splitmode=blosc2.SplitMode.NEVER_SPLIT,
        nthreads=1,  # with several, blocks come in the order in which threads finish
    )
    frame = blosc2.asarray(np.ascontiguousarray(array), chunks=chunk, blocks=chunk, cparams=parameters)
    return bytes(frame.to_cframe())


def read(path: Path, index: Any = ...) -> NDArray[Any]:
    """Part of an array, of which only the chunks that it touches are read.

    Raises:
        OutputError: the file is missing or damaged.
    """
    try:
        array = blosc2.open(str(path), mode="r", dparams=blosc2.DParams(nthreads=1))
        if not isinstance(array, blosc2.NDArray):
            raise RuntimeError("holds no array")
        return np.asarray(array[index])
    except (RuntimeError, OSError, ValueError) as error:
        raise OutputError(
            f"{path}: cannot be read ({str(error).splitlines()[0]}); remove the store, and it is made anew"
        ) from error


def write_durably(path: Path, data: bytes) -> None:
    """Write a file and wait until it is on the disk: what is written later never stands without it."""
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
