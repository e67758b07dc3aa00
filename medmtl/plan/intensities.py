"""The normalization of each channel, by what its numbers mean."""

from __future__ import annotations

import re

from medmtl.data.normalize import Normalization, Normalizations, of_channel, parse_normalization
from medmtl.plan.fingerprint import Fingerprint
from medmtl.plan.voxels import Intensity, Voxels
from medmtl.types import ConfigError

_BY_WORD = {
    "window": {"ct", "cect", "ncct", "cta", "ldct"},
    "suv": {"pet", "pt", "suv", "fdg", "psma"},
    "zscore": {
        "mr",
        "mri",
        "t1",
        "t1w",
        "t1c",
        "t1ce",
        "t2",
        "t2w",
        "flair",
        "adc",
        "dwi",
        "cine",
        "lge",
        "pd",
    },
}
_BY_MODALITY = {"CT": "window", "PT": "suv"}
_WHY = {
    "zscore": "MRI has arbitrary units, so every case is standardized by itself",
    "window": "Hounsfield units mean the same in every case: clipped to the foreground's 0.5 and 99.5 "
    "percentiles, then its mean and standard deviation, over all cases",
    "suv": "SUV means the same in every case: clipped to 0..20, and 5 becomes 1",
    "none": "intensities stay as they are",
}
NO_SUV = 500.0
"""A PET channel with more than this in its foreground is in another unit, such as Bq/mL."""


def wanted_normalization(found: Fingerprint, asked: Normalizations | str | None) -> Normalizations:
    """What was asked for, or what fits the modality; a window may still lack its constants.

    Args:
        found: channels and modality count.
        asked: None leaves it to the data.

    Raises:
        ConfigError: as many entries as there are no channels.
    """
    given = parse_normalization(asked)
    if given is None:
        return tuple(Normalization(_type(channel, found.modality)) for channel in found.channels)
    if len(given) not in (1, len(found.channels)):
        raise ConfigError(
            f"normalization: has {len(given)} entries, the dataset has {len(found.channels)} channels "
            f"({', '.join(found.channels)}); give one for each, or one for all"
        )
    return tuple(of_channel(given, channel) for channel in range(len(found.channels)))


def needs_voxels(wanted: Normalizations) -> bool:
    """Whether constants are missing that only the voxels tell."""
    return not all(entry.is_complete for entry in wanted)


def complete_normalization(wanted: Normalizations, found: Fingerprint) -> tuple[Normalizations, list[str]]:
    """Fill in a window's constants from the foreground of all cases; and why each channel is treated so.

    Raises:
        ConfigError: a window is asked for, and no case could be read or its foreground has one value.
    """
    entries: list[Normalization] = []
    reasons: list[str] = []
    for name, entry in zip(found.channels, wanted, strict=True):
        reason = _WHY[entry.type]
        if not entry.is_complete:
            entry = _window(name, found.voxels, len(entries))
            assert found.voxels is not None
            reason += f" ({found.voxels.foreground} of {found.voxels.cases} cases)"
        elif entry.type == "suv" and found.voxels and found.voxels.intensities[len(entries)].high > NO_SUV:
            high = found.voxels.intensities[len(entries)].high
            reason += (
                f". It reaches {high:.4g}, which no SUV does: is it in Bq/mL? Then use zscore, or convert it"
            )
        entries.append(entry)
        reasons.append(f"{name}: {entry.type}; {reason}")
    same = len(set(entries)) == 1
    return (entries[0],) if same else tuple(entries), reasons


def _type(channel: str, modality: str) -> str:
    words = set(re.split(r"[^a-z0-9]+", channel.lower()))
    for kind, known in _BY_WORD.items():
        if words & known:
            return kind
    return _BY_MODALITY.get(modality.upper(), "zscore")


def _window(channel: str, voxels: Voxels | None, index: int) -> Normalization:
    seen: Intensity | None = voxels.intensities[index] if voxels else None
    if seen is None or not seen.low < seen.high or seen.sd <= 0:
        raise ConfigError(
            f"normalization: no window can be measured for channel {channel!r}, as its foreground could not "
            f"be read or "
            "has a single value; give {type: window, low, high, mean, sd}, or use zscore"
        )
    low, high, mean, sd = (round(v, 4) for v in (seen.low, seen.high, seen.mean, seen.sd))
    return Normalization("window", low, high, mean, sd)
