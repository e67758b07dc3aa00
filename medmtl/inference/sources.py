"""What `predict` was given -> cases: a dataset folder, a folder of NIfTI files, or one NIfTI file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medmtl.data.dataset import Case, Dataset, open_dataset
from medmtl.data.formats import find_format
from medmtl.registry import nearest
from medmtl.types import ConfigError, DatasetError

ENDINGS = (".nii.gz", ".nii")


@dataclass(frozen=True)
class Sources:
    """Cases to predict, and the dataset that they come from, if there is one."""

    cases: tuple[Case, ...]
    dataset: Dataset | None = None


def find_cases(source: Path, channels: Sequence[str], *, split: str = "all") -> Sources:
    """Find the cases of a source.

    A dataset folder gives its cases. In a folder of NIfTI files every file is a case, named by its path; a
    model of several channels wants them as ``NAME_<channel>.nii.gz`` side by side.

    Raises:
        ConfigError: nothing there, or not what the model needs.
    """
    if (source / "dataset.yaml").is_file():
        dataset = open_dataset(source)
        if dataset.channels != tuple(channels):
            raise ConfigError(
                f"{source}: has channels {list(dataset.channels)}, the model was trained on {list(channels)}"
            )
        cases = dataset.select(split)
        if not cases:
            raise ConfigError(f"{source / 'cases.csv'}: no case has split = {split}; choose another split")
        return Sources(cases, dataset)
    if source.is_file():
        if not source.name.endswith(ENDINGS):
            raise ConfigError(f"{source}: is no NIfTI file (.nii or .nii.gz)")
        files, root = [source], source.parent
    elif source.is_dir():
        _refuse_known_layout(source)
        files, root = sorted(p for p in source.rglob("*.nii*") if p.name.endswith(ENDINGS)), source
    else:
        raise ConfigError(f"{source}: no such file or folder")
    if not files:
        raise ConfigError(f"{source}: no NIfTI file (.nii or .nii.gz) in it")
    return Sources(tuple(_single(files, root) if len(channels) == 1 else _several(files, root, channels)))


def _refuse_known_layout(source: Path) -> None:
    try:
        found = find_format(source, "auto")
    except DatasetError:
        return
    raise ConfigError(
        f"{source}: holds {found.recognizes(source)}, so labels lie among its images; run `medmtl ingest` "
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
