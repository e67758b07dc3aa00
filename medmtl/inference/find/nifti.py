"""NIfTI files and dataset folders -> items."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from medmtl.data.dataset import Case, open_dataset
from medmtl.data.formats import find_format
from medmtl.inference.find.names import Pseudonyms
from medmtl.inference.items import Item, fingerprint_of
from medmtl.registry import nearest
from medmtl.types import ConfigError, DatasetError

ENDINGS = (".nii.gz", ".nii")


def items_of_dataset(
    root: Path, channels: Sequence[str], covariates: Sequence[str], split: str, names: Pseudonyms
) -> Iterator[Item]:
    """The cases of a dataset folder, with what the table knows of them.

    Args:
        root: the folder.
        channels: the model's.
        covariates: value columns that its heads read.
        split: which cases.
        names: how cases are called.

    Raises:
        ConfigError: other channels, or no case of that split.
        DatasetError: the folder contradicts itself.
    """
    dataset = open_dataset(root)
    if dataset.channels != tuple(channels):
        raise ConfigError(
            f"{root}: has channels {list(dataset.channels)}, the model was trained on {list(channels)}"
        )
    cases = dataset.select(split)
    if not cases:
        raise ConfigError(f"{root / 'cases.csv'}: no case has split = {split}; choose another split")
    place = hashlib.sha1(str(root.resolve()).encode(), usedforsecurity=False).hexdigest()[:12]
    for case in cases:
        paths = tuple(os.path.abspath(path) for path in case.images)  # noqa: PTH100
        values = {name: case.values.get(name) for name in covariates}
        values |= {"frame_ed": case.frame_ed, "frame_es": case.frame_es}
        name = names.of(case.case_id)
        yield Item(
            f"dataset:{place}:{name}", name, "nifti", paths, fingerprint=fingerprint_of(paths), values=values
        )


def items_of_files(
    files: Sequence[Path], root: Path, channels: Sequence[str], names: Pseudonyms
) -> Iterator[Item]:
    """NIfTI files: each a case, named by its path; a model of several channels wants them side by side.

    Args:
        files: absolute.
        root: the folder that they were found in.
        channels: the model's; where there are several, files are called ``NAME_<channel>.nii.gz``.
        names: how cases are called.

    Raises:
        ConfigError: two files would be one case, or a channel is missing.
    """
    found = _single(files, root) if len(channels) == 1 else _several(files, root, channels)
    for case in found:
        paths = tuple(str(path) for path in case.images)
        key = hashlib.sha1("\n".join(paths).encode(), usedforsecurity=False).hexdigest()
        yield Item(f"nifti:{key}", names.of(case.case_id), "nifti", paths, fingerprint=fingerprint_of(paths))


def refuse_labels_among_images(root: Path) -> None:
    """Refuse a folder whose layout is known, as labels lie among its images.

    Raises:
        ConfigError: it is one.
    """
    try:
        found = find_format(root, "auto")
    except DatasetError:
        return
    if found.rank > 0:
        raise ConfigError(
            f"{root}: holds {found.recognizes(root)}, so labels lie among its images; run `medmtl ingest` "
            "on it first and predict the dataset"
        )


def _stem(path: Path, root: Path) -> str:
    """Case name of a file: its path below the source, without the ending, safe as a folder name."""
    name = "_".join(path.relative_to(root).parts)
    for ending in ENDINGS:
        name = name.removesuffix(ending)
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in name).lstrip("._-") or "case"


def _single(files: Sequence[Path], root: Path) -> list[Case]:
    named: dict[str, Path] = {}
    for path in files:
        stem = _stem(path, root)
        if stem in named:
            raise ConfigError(f"{path} and {named[stem]} would both be the case {stem!r}; rename one of them")
        named[stem] = path
    return [Case(case_id=stem, patient="", split="", images=(path,)) for stem, path in named.items()]


def _several(files: Sequence[Path], root: Path, channels: Sequence[str]) -> list[Case]:
    found: dict[str, dict[str, Path]] = {}
    for path in files:
        stem, _, channel = _stem(path, root).rpartition("_")
        if channel not in channels:
            raise ConfigError(
                f"{path}: the model needs channels {list(channels)}, so name files NAME_<channel>.nii.gz"
                f"{nearest(channel, list(channels))}"
            )
        parts = found.setdefault(stem, {})
        if channel in parts:
            other = parts[channel]
            raise ConfigError(f"{path} and {other} would both be {channel} of {stem!r}; rename one of them")
        parts[channel] = path
    for stem, parts in found.items():
        if missing := [c for c in channels if c not in parts]:
            raise ConfigError(f"{root}: case {stem!r} has no file for channel {missing[0]!r}")
    return [
        Case(case_id=stem, patient="", split="", images=tuple(parts[c] for c in channels))
        for stem, parts in found.items()
    ]
