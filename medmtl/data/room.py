"""How much main memory and disk there is, and numbers of bytes that a person reads."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_UNLIMITED = 2**60


def total_memory() -> int:
    """Bytes of main memory that this process may use: the machine's, or a container's limit."""
    return min(_machine_memory(), _limit())


def free_memory() -> int:
    """Bytes of main memory that nobody uses now."""
    free = _machine_memory()
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux: what the machine has is all that is known
    return max(0, min(free, _limit() - _used_in_container()) if _limit() < _UNLIMITED else free)


def free_disk(folder: Path) -> int:
    """Bytes that are free where a folder lies, or will."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free


def readable(size: float) -> str:
    """``3.2 GB``, in powers of ten as disks are sold."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            number = size / factor
            return f"{number:.0f} {unit}" if number >= 100 else f"{number:.3g} {unit}"
    return f"{size:.0f} bytes"


def _machine_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _limit() -> int:
    """What a container may use, in either version of Linux' control groups."""
    return min(
        _number(_CGROUP / "memory.max") or _UNLIMITED,
        _number(_CGROUP / "memory" / "memory.limit_in_bytes") or _UNLIMITED,
    )


def _used_in_container() -> int:
    """What is in use of it, less the cached files that the system gives up when asked."""
    used = _number(_CGROUP / "memory.current") or _number(_CGROUP / "memory" / "memory.usage_in_bytes")
    for name in ("memory.stat", "memory/memory.stat"):
        try:
            lines = (_CGROUP / name).read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        cached = [int(line.split()[1]) for line in lines if line.startswith("inactive_file ")]
        return max(0, used - sum(cached))
    return used


def _number(path: Path) -> int:
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return 0
    return int(text) if text.isdecimal() else 0
