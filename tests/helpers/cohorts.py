"""Fingerprints of made-up cohorts, and memory to plan for."""

from __future__ import annotations

from typing import Any

from medmtl.plan import Budget, Fingerprint

GIB = 2**30


def cohort(
    spacing: tuple[float, float, float], shape: tuple[int, int, int], cases: int = 20, **others: Any
) -> Fingerprint:
    """So many cases alike."""
    return Fingerprint(
        case_ids=tuple(f"case{i:02d}" for i in range(cases)),
        spacings=(spacing,) * cases,
        shapes=(shape,) * cases,
        **{"frames": (1,) * cases, **others},
    )


def mixed(*rows: tuple[tuple[float, float, float], tuple[int, int, int]], **others: Any) -> Fingerprint:
    """A case per row of voxel size and shape."""
    return Fingerprint(
        case_ids=tuple(f"case{i:02d}" for i in range(len(rows))),
        spacings=tuple(spacing for spacing, _ in rows),
        shapes=tuple(shape for _, shape in rows),
        **{"frames": (1,) * len(rows), **others},
    )


def budget(gib: float = 8, *, total: float | None = None, value_bytes: int = 2) -> Budget:
    return Budget(int(gib * GIB), int((total or gib) * GIB), "a GPU", value_bytes)
