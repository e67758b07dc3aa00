"""Activation checkpointing: what a block computed on the way is forgotten, and computed again for gradients.

Memory falls to what lies between blocks and the largest block; time rises by about one forward pass. The
numbers stay the same (Chen et al. 2016).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def run_block(block: Callable[..., Any], *inputs: Tensor, again: bool) -> Any:
    """What a block makes of its inputs.

    Args:
        block: a module or a function of tensors.
        inputs: what it reads.
        again: forget what is inside, and compute it again when gradients come back.
    """
    if again and torch.is_grad_enabled():
        return checkpoint(block, *inputs, use_reentrant=False)
    return block(*inputs)
