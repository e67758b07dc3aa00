"""medmtl's reader as a MONAI ``ImageReader``, for notebooks and pipelines that load with MONAI."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from monai.data.image_reader import ImageReader
from monai.utils.enums import MetaKeys, SpaceKeys
from numpy.typing import NDArray

from medmtl.data.dicom import load, scan
from medmtl.data.dicom.model import Scan, VolumePlan
from medmtl.data.dicom.suv import SuvKind
from medmtl.types import CaseError, ConfigError

Choose = Callable[[Sequence[VolumePlan]], VolumePlan]


@dataclass(frozen=True)
class Sources:
    """What ``read`` was asked for; nothing is read before ``get_data``."""

    paths: tuple[Path, ...]


class MedmtlReader(ImageReader):  # type: ignore[misc, unused-ignore]
    """DICOM folders, files and archives for ``LoadImage``; a volume is right, or an error says why it is not.

    A 3D volume is ``(X, Y, Z)``, a 4D one ``(X, Y, Z, T)`` with T as its channel, so that
    ``EnsureChannelFirst`` makes ``(1, X, Y, Z)`` or ``(T, X, Y, Z)``. The affine is RAS+ mm and says so
    (``space``): nothing is left to flip, and there is no ``affine_lps_to_ras`` to set. Several paths at once
    are parts of one study.

    MONAI tries its other readers when one fails to *read*, and they would stack what medmtl refuses; so
    everything, errors too, happens in ``get_data``.

    Args:
        volume: name of the volume wanted, such as ``s007``, or a function that chooses one of the plans.
            Without it, there must be exactly one.
        suv: what PET becomes, as for ``medmtl.data.dicom.load``.
        strict: refuse volumes that would have to be resampled.

    Example:
        ``LoadImaged(keys="image", reader=MedmtlReader)``, then any of MONAI's transforms.
    """

    def __init__(
        self, *, volume: str | Choose | None = None, suv: SuvKind | None = "bw", strict: bool = False
    ) -> None:
        self.volume = volume
        self.suv = suv
        self.strict = strict

    def verify_suffix(self, filename: Any) -> bool:
        """Whether MONAI may choose this reader by itself: for folders, and files named as DICOM is."""
        return all(
            path.is_dir() or path.suffix.lower() in (".dcm", ".ima", ".dicom") for path in _paths(filename)
        )

    def read(self, data: Any, **_: Any) -> Sources:
        """Notes the path, or the paths of one study."""
        return Sources(_paths(data))

    def get_data(self, img: Sources) -> tuple[NDArray[Any], dict[str, Any]]:
        """The voxels and what MONAI needs to know about them.

        Returns:
            ``(X, Y, Z)`` or ``(X, Y, Z, T)``, and the metadata: ``affine``, ``original_affine`` (RAS+ mm),
            ``spatial_shape``, ``space``, ``original_channel_dim``; ``volume``, ``modality``, ``unit``,
            ``time_ms`` (one per frame), and ``findings``, their codes in one line.

        Raises:
            CaseError: the study has no volume that can be trusted.
            ConfigError: it has several, and none was chosen.
        """
        plan = self._choose(scan(img.paths, strict=self.strict), img)
        loaded = load(plan, suv=self.suv)
        meta = {
            MetaKeys.AFFINE: plan.affine.copy(),
            MetaKeys.ORIGINAL_AFFINE: plan.affine.copy(),
            MetaKeys.SPATIAL_SHAPE: np.array(plan.shape[:3]),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.ORIGINAL_CHANNEL_DIM: -1 if loaded.array.ndim == 4 else float("nan"),
            "volume": plan.name,
            "modality": plan.modality,
            "unit": loaded.unit,
            "time_ms": np.zeros(1) if plan.time is None else plan.time.times_ms.copy(),
            "findings": " ".join(sorted({finding.code for finding in loaded.findings})),
        }
        return loaded.array, meta

    def _choose(self, found: Scan, sources: Sources) -> VolumePlan:
        plans = [plan for series in found.series for plan in series.volumes]
        where = ", ".join(map(str, sources.paths))
        if not plans:
            findings = [*found.findings, *(finding for series in found.series for finding in series.findings)]
            first = next((finding for finding in findings if finding.severity == "error"), None)
            why = f": {first.code}: {first.message}" if first is not None else ""
            raise CaseError("NO_USABLE_SERIES", f"{where}: no volume can be made of it{why}")
        if callable(self.volume):
            return self.volume(plans)
        named = [plan for plan in plans if self.volume in (None, plan.name)]
        if len(named) == 1:
            return named[0]
        names = ", ".join(f"{plan.name} ({'x'.join(map(str, plan.shape))})" for plan in plans)
        if self.volume is None:
            raise ConfigError(
                f"{where}: holds {len(plans)} volumes, {names}; choose: MedmtlReader(volume=...)"
            )
        raise ConfigError(f"{where}: holds no volume {self.volume!r}, but {names}")


def _paths(data: Any) -> tuple[Path, ...]:
    several = isinstance(data, Sequence) and not isinstance(data, str)
    return tuple(Path(path) for path in (data if several else (data,)))
