"""What a run ran on: `environment.json`."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

PACKAGES = ("medmtl", "torch", "monai", "pytorch-ignite", "nibabel", "numpy", "scikit-learn")


def describe_environment(device: torch.device, threads: int, ranks: int = 1) -> dict[str, Any]:
    """Versions, device, threads, ranks; no host name, no user, no path."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "threads": threads,
        "ranks": ranks,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "packages": versions,
    }
