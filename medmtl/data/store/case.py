"""A case that stays on the disk: what is small is in memory, voxels are read when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medmtl.data.crop import Box, Crop
from medmtl.data.foreground import organ_place
from medmtl.data.nifti import Geometry
from medmtl.data.prepare import PreparedCase
from medmtl.data.store.arrays import read
from medmtl.data.store.entry import FOREGROUND, IMAGE, MAP, MASK, OVERVIEW, entry_folder


class _Recent:
    """The last array that was read whole: validation looks at a case's image several times in a row."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self.tensor = torch.empty(0)
        self.lock = Lock()

    def get(self, path: Path, load: Callable[[Path], Tensor]) -> Tensor:
        with self.lock:
            if path != self.path:
                self.path, self.tensor = path, torch.empty(0)  # let the old one go before the new one comes
                self.tensor = load(path)
            return self.tensor


_RECENT = _Recent()


class _Lazy(Mapping[str, Tensor]):
    """Whole arrays by column, read when asked for."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self.paths = dict(paths)

    def __getitem__(self, name: str) -> Tensor:
        return _whole(self.paths[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.paths)

    def __len__(self) -> int:
        return len(self.paths)


class StoredCase(PreparedCase):
    """A prepared case in a store; what it offers is what a case in memory offers.

    ``image``, ``masks`` and ``maps`` read whole volumes on each access. `crop` reads the chunks that a
    patch touches.

    Args:
        store: the store's folder.
        entry: the case's JSON.
        columns: the mask and map columns that are wanted, in the dataset's order.
        facts: what the table says of the case, see `medmtl.data.load.table_facts`.
        device: where samples are made.
    """

    def __init__(
        self,
        store: Path,
        entry: Mapping[str, Any],
        columns: Sequence[str],
        facts: Mapping[str, Any],
        device: torch.device,
    ) -> None:
        folder, arrays = entry_folder(store, entry["case_id"]), entry["arrays"]
        self._files = {name: folder / array["file"] for name, array in arrays.items()}
        self._shape = tuple(int(n) for n in arrays[IMAGE]["shape"])
        self._device = device
        self.case_id = entry["case_id"]
        self.spacing_mm = tuple(entry["spacing_mm"])
        source = entry["source"]
        self.source = Geometry(
            tuple(source["shape"]), source["frames"], np.array(source["affine"]), source["oriented"]
        )
        self.is_4d, self.time_step_ms = entry["is_4d"], entry["time_step_ms"]
        self.affine = np.array(entry["affine"])
        self._masks = {name: self._files[MASK + name] for name in columns if MASK + name in arrays}
        self._maps = {name: self._files[MAP + name] for name in columns if MAP + name in arrays}
        self.masks = _Lazy(self._masks)  # type: ignore[assignment]  # reads like the dict of a case in memory
        self.maps = _Lazy(self._maps)  # type: ignore[assignment]
        self.labelled = {name: tuple(flags) for name, flags in entry["labelled"].items() if name in columns}
        boxes = [entry["boxes"][name] for name in self._masks]
        self.centre, self.extent = organ_place(boxes, self.shape)
        self._numbers = [number for number, name in enumerate(sorted(entry["boxes"])) if name in self._masks]
        self.frame_ed, self.frame_es = facts["frame_ed"], facts["frame_es"]
        self.values, self.covariates = dict(facts["values"]), facts["covariates"]

    def __repr__(self) -> str:
        return f"StoredCase({self.case_id!r}, {'x'.join(str(n) for n in self._shape)})"

    @property
    def image(self) -> Tensor:  # type: ignore[override]  # read, not kept
        """``(T, C, X, Y, Z)``, read from the disk."""
        return _whole(self._files[IMAGE])

    @property
    def foreground(self) -> Tensor:  # type: ignore[override]
        """``(N, 5)``, read from the disk."""
        rows = torch.from_numpy(read(self._files[FOREGROUND]))
        return rows[torch.isin(rows[:, 0] // 256, torch.tensor(self._numbers, dtype=rows.dtype))]

    @property
    def n_frames(self) -> int:
        """Number of frames T."""
        return self._shape[0]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along each axis."""
        return (self._shape[2], self._shape[3], self._shape[4])

    @property
    def device(self) -> torch.device:
        """Where samples of it are made."""
        return self._device

    @property
    def in_parts(self) -> bool:
        """It always pays to know which part of the volume a patch needs."""
        return True

    def crop(self, frames: Sequence[int], box: Box | None = None) -> Crop:
        """Some frames inside a box; only the chunks that it touches are read."""
        inside = (slice(None),) * 3 if box is None else box.slices

        def part(path: Path, *between: slice) -> Tensor:
            found = [read(path, (slice(f, f + 1), *between, *inside)) for f in frames]
            return torch.from_numpy(found[0] if len(found) == 1 else np.concatenate(found)).to(self._device)

        return Crop(
            part(self._files[IMAGE], slice(None)),
            {name: part(path) for name, path in self._masks.items()},
            {name: part(path) for name, path in self._maps.items()},
        )

    def whole(self, frames: Sequence[int], grid: Sequence[int]) -> Tensor:
        """Some frames of the whole image, coarser, as they lie in the store."""
        found = [read(self._files[OVERVIEW], slice(f, f + 1)) for f in frames]
        return torch.from_numpy(np.concatenate(found)).to(self._device)


def _whole(path: Path) -> Tensor:
    return _RECENT.get(path, lambda file: torch.from_numpy(read(file)))
