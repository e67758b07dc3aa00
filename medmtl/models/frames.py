"""Operations over the frames of each case, when cases own different numbers of frames."""

from __future__ import annotations

import torch
from torch import Tensor


def membership(case_of_frame: Tensor, n_cases: int) -> Tensor:
    """``(N,)`` case of each frame -> ``(B, N)`` boolean, which frames are whose."""
    return torch.arange(n_cases, device=case_of_frame.device)[:, None] == case_of_frame[None, :]


def mean_over_frames(values: Tensor, case_of_frame: Tensor, n_cases: int) -> Tensor:
    """``(N, D)`` -> ``(B, D)``."""
    own = membership(case_of_frame, n_cases).to(values.dtype)
    return (own @ values) / own.sum(1, keepdim=True).clamp_min(1)


def attention_over_frames(values: Tensor, scores: Tensor, case_of_frame: Tensor, n_cases: int) -> Tensor:
    """``(N, D)`` weighted by the softmax of ``(N,)`` scores among each case's frames -> ``(B, D)``."""
    own = membership(case_of_frame, n_cases)
    weights = scores[None, :].masked_fill(~own, -torch.inf).softmax(dim=1)
    return weights.to(values.dtype) @ values


def extreme_values(values: Tensor, case_of_frame: Tensor, n_cases: int) -> tuple[Tensor, Tensor]:
    """Largest and smallest of each column of ``(N, D)`` over the frames of each case: two ``(B, D)``."""
    others = ~membership(case_of_frame, n_cases)[:, :, None]
    largest = values[None].masked_fill(others, -torch.inf).amax(dim=1)
    smallest = values[None].masked_fill(others, torch.inf).amin(dim=1)
    return largest, smallest


def extreme_frames(size: Tensor, case_of_frame: Tensor, n_cases: int) -> tuple[Tensor, Tensor]:
    """Frames where ``(N,)`` size is largest and smallest in each case: two ``(B,)`` indices into the frames.

    With a ventricle's volume as size these are end-diastole and end-systole.
    """
    own = membership(case_of_frame, n_cases)
    largest = size[None, :].masked_fill(~own, -torch.inf).argmax(dim=1)
    smallest = size[None, :].masked_fill(~own, torch.inf).argmin(dim=1)
    return largest, smallest
