"""What `Model.predict` gives back, for notebooks: values, volumes, a picture, and the files."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.data.nifti import read_volume
from medmtl.registry import nearest
from medmtl.types import ConfigError, Finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from medmtl.inference.results import PredictionRun

SLICES = (0.1, 0.35, 0.65, 0.9)
"""Which slices of the segmented part of a stack `Prediction.plot` shows."""


@dataclass(frozen=True)
class Prediction:
    """What a model said of one or more cases."""

    run: PredictionRun

    @property
    def values(self) -> DataFrame:
        """One row per case: status and every output, units in the headers."""
        return self.run.table

    @property
    def findings(self) -> list[Finding]:
        """Why cases were refused, and what else was noticed."""
        return self.run.findings

    def volume(self, task: str | None = None, case_id: str | None = None) -> Any:
        """Labels or values of a dense task, ``(X, Y, Z)`` or ``(X, Y, Z, T)``, as nibabel's image.

        Args:
            task: a dense task; the first one by default.
            case_id: a predicted case; the first one by default.

        Raises:
            ConfigError: no such task or case.
        """
        import nibabel

        dense = [name for name, entry in self.run.outputs.items() if "file" in entry]
        done = [str(c) for c in self.run.table.loc[self.run.table["status"] == "ok", "case_id"]]
        task, case_id = _choose("dense task", task, dense), _choose("predicted case", case_id, done)
        return nibabel.load(self.run.folder / case_id / self.run.outputs[task]["file"])

    def plot(self, task: str | None = None, case_id: str | None = None) -> Figure:
        """Outlines of a segmentation or tissue task on four slices of its fullest and its emptiest frame.

        Args:
            task: a task with labels; the first dense task by default.
            case_id: a predicted case; the first one by default.

        Returns:
            matplotlib's figure; a notebook shows it, ``figure.savefig`` keeps it.

        Raises:
            ConfigError: no such task or case.
        """
        from matplotlib.figure import Figure

        labels = self.volume(task, case_id)
        case_id = case_id or Path(labels.get_filename()).parent.name
        mask = np.atleast_3d(np.asarray(labels.dataobj))
        image = read_volume(self.run.images[case_id], spacing_from_pixdim=True).array
        mask = mask[..., None] if mask.ndim == 3 else mask
        image = image[..., None] if image.ndim == 3 else image
        sizes = np.count_nonzero(mask, axis=(0, 1, 2))
        frames = list(dict.fromkeys((int(sizes.argmax()), int(sizes.argmin()))))
        filled = np.flatnonzero(mask.any(axis=(0, 1, 3)))
        filled = filled if filled.size else np.arange(mask.shape[2])
        chosen = [int(filled[round(share * (filled.size - 1))]) for share in SLICES]
        aspect = float(np.divide(*labels.header.get_zooms()[1::-1]))
        low, high = np.percentile(image, (1, 99))
        figure = Figure(figsize=(3 * len(chosen), 3 * len(frames)), layout="compressed")
        for row, frame in enumerate(frames):
            for column, z in enumerate(chosen):
                axes = figure.add_subplot(len(frames), len(chosen), row * len(chosen) + column + 1)
                axes.imshow(image[:, :, z, frame].T, cmap="gray", vmin=low, vmax=high, aspect=aspect)
                for color, value in enumerate(np.unique(mask[mask > 0])):
                    axes.contour((mask[:, :, z, frame] == value).T, [0.5], colors=[f"C{color}"], linewidths=1)
                axes.set_title(f"frame {frame}, slice {z}", fontsize=8)
                axes.set_axis_off()
        return figure

    def save(self, folder: Path | str) -> Path:
        """Copy the prediction folder to ``folder``, which must not exist yet."""
        shutil.copytree(self.run.folder, folder)
        return Path(folder)


def _choose(what: str, wanted: str | None, known: list[str]) -> str:
    if not known:
        raise ConfigError(f"there is no {what}")
    if wanted is not None and wanted not in known:
        raise ConfigError(f"{wanted!r} is no {what}{nearest(wanted, known)}")
    return known[0] if wanted is None else wanted
