"""Tensors from a file that may hold anything: numbers are read, and nothing in it is executed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from medmtl.types import ConfigError


def load_numbers(path: Path, *, where: str = "", harmless: Sequence[Any] = ()) -> Any:
    """What a ``.safetensors`` file or a checkpoint of PyTorch holds, on the CPU.

    Args:
        path: the file.
        where: what the message begins with, such as the key of the config that names the file.
        harmless: types that may stand in a pickle besides tensors, see `torch.serialization.safe_globals`.

    Raises:
        ConfigError: no such file, not a whole one, or one that holds more than numbers.
    """
    name = f"{where}: {path}" if where else str(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(list(harmless)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ConfigError(f"{name}: no such file") from error
    except UnpicklingError as error:
        raise ConfigError(f"{name}: holds more than numbers, and is not read ({error!s:.200})") from error
    except (OSError, RuntimeError, EOFError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise ConfigError(f"{name}: is no whole file of weights ({error!s:.200})") from error
