"""Where to compute, and with how many threads."""

from __future__ import annotations

import torch

from medmtl.types import ConfigError


def choose_device(name: str) -> torch.device:
    """``auto`` is the GPU where there is one.

    Raises:
        ConfigError: an unknown name, or a GPU asked for where there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name != "cpu" and not name.startswith("cuda"):
        raise ConfigError(f"device: {name!r} is not known; use auto, cpu, cuda or cuda:N")
    if name.startswith("cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        index = name.partition(":")[2] or "0"
        if not index.isdigit() or int(index) >= count:
            raise ConfigError(
                f"device: {name!r} was asked for, but PyTorch sees {count} GPUs here; use device=cpu or auto"
            )
    return torch.device(name)


def fast_dtype(device: torch.device) -> torch.dtype | None:
    """Mixed precision where it is fast: bfloat16 on a GPU and on a CPU with AMX; None (float32) elsewhere.

    Without those instructions a bfloat16 convolution on a CPU can be 35 times slower than float32.
    """
    if device.type == "cuda":
        return torch.bfloat16
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return torch.bfloat16 if capabilities.get("amx_bf16") else None
