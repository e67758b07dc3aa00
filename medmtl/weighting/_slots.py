"""Reading and writing the entries of the tasks present, without waiting for the device.

Indexing with a list would copy it to the device and wait; indexing with Python integers does not.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pick(buffer: Tensor, present: tuple[int, ...]) -> Tensor:
    """A copy ``(P,)`` of a ``(K,)`` tensor's entries at the present tasks; never waits for the device."""
    if len(present) == len(buffer):
        return buffer.clone()
    return torch.stack([buffer[position] for position in present])


def put(buffer: Tensor, present: tuple[int, ...], values: Tensor) -> None:
    """Writes ``(P,)`` values into a ``(K,)`` buffer at the present tasks; the others stay as they are."""
    if len(present) == len(buffer):
        buffer.copy_(values)
        return
    for position, value in zip(present, values.unbind(), strict=True):
        buffer[position] = value
