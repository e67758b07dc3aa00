"""nnU-Net's raw data sets: ``imagesTr/CASE_0000.nii.gz``, ``labelsTr/CASE.nii.gz`` and ``dataset.json``.

Isensee et al. 2021, doi 10.1038/s41592-020-01008-z; version 2 of the layout, and version 1, which writes
labels the other way round. A region (a label of several values) overlaps others, so each becomes a mask
column of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from medmtl.data.columns import Column, Schema
from medmtl.data.formats.base import FORMATS, DatasetFormat, LoadedCase, RawCase
from medmtl.data.formats.description import (
    FILE,
    Targets,
    channel_names,
    modality_of,
    read_json,
    read_targets,
    safe_name,
    section,
    text_of,
)
from medmtl.data.formats.labels import LabelMap, first_doubled, plain_codes
from medmtl.data.formats.volumes import ENDINGS, is_volume_name, read_any, same_grid
from medmtl.data.nifti import Volume
from medmtl.types import CaseError, DatasetError

SPLITS_FILE = "splits_final.json"
_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")


@FORMATS.register("nnunet")
class NNUNet(DatasetFormat):
    """A folder ``DatasetXXX_Name`` of nnU-Net's raw data.

    ``imagesTs`` is the test split; the first fold of a ``splits_final.json`` in the folder says who
    validates.
    """

    looks_for: ClassVar[str] = f"{FILE} beside imagesTr with files CASE_0000.nii.gz"
    rank: ClassVar[int] = 2

    def recognizes(self, path: Path) -> str | None:
        """``dataset.json`` beside an image whose name ends in a channel's number."""
        if not (path / FILE).is_file() or not (path / "imagesTr").is_dir():
            return None
        try:
            data = read_json(path / FILE)
        except DatasetError:
            data = {}
        if "file_ending" in data and "channel_names" in data:
            return f"{FILE} with channel_names and file_ending, beside imagesTr"
        numbered = any(_case_of(file.name, None) for file in (path / "imagesTr").iterdir())
        listed = data.get("training")
        named = (
            [entry.get("image") for entry in listed if isinstance(entry, dict)]
            if isinstance(listed, list)
            else []
        )
        if not numbered or any(isinstance(name, str) and (path / name).is_file() for name in named):
            return None
        return f"{FILE} beside imagesTr with files CASE_0000.nii.gz"

    def schema(self, path: Path) -> Schema:
        """The channels, the labels as one mask column (regions: one each), and targets."""
        return _Description.read(path).schema

    def read(self, path: Path) -> Iterable[RawCase]:
        """The cases of imagesTr, imagesTs and of the list ``dataset``, by name."""
        description = _Description.read(path)
        splits = _first_fold(path / SPLITS_FILE)
        for case in sorted(description.cases(), key=lambda case: (case.name, case.folder)):
            split = "test" if case.folder == "imagesTs" else splits.get(case.name, "")
            yield RawCase(case.name, f"{case.folder}/{case.name}", partial(_load, case, split, description))


@dataclass(frozen=True)
class _Case:
    """One case: a file per channel, None where it is missing, and where its label would be."""

    name: str
    folder: str
    images: tuple[Path | None, ...]
    label: Path


@dataclass(frozen=True)
class _Description:
    """What ``dataset.json`` says."""

    root: Path
    data: Mapping[str, Any]
    ending: str
    masks: Mapping[str, LabelMap]
    targets: Targets
    schema: Schema

    @classmethod
    def read(cls, root: Path) -> _Description:
        """Reads ``dataset.json``.

        Raises:
            DatasetError: it cannot be used.
        """
        path = root / FILE
        data = read_json(path)
        ending = data.get("file_ending", ".nii.gz")
        if not isinstance(ending, str) or ending.lower() not in ENDINGS:
            raise DatasetError(
                f"{path}, 'file_ending': found {ending!r}; volumes end in {', '.join(ENDINGS)}"
            )
        targets = read_targets(root, data)
        key = "channel_names" if "channel_names" in data or "modality" not in data else "modality"
        channels = channel_names(data, key, path)
        if targets.channels and len(targets.channels) == len(channels):
            channels = targets.channels
        masks = _masks(section(data, "labels", path), path, targets)
        columns = {name: Column(name, "mask", labels=mask.codes) for name, mask in masks.items()}
        name = root.resolve().name
        schema = Schema(
            text_of(data, "name", "dataset_name") or re.sub(r"^(Dataset|Task)\d+_", "", name),
            targets.modality or modality_of(channels),
            channels,
            {**columns, **targets.columns},
            None,
            text_of(data, "reference"),
            text_of(data, "licence", "license"),
        )
        return cls(root, data, ending, masks, targets, schema)

    def cases(self) -> list[_Case]:
        """The cases, from the list ``dataset`` where there is one, else from the names of files."""
        listed = self.data.get("dataset")
        found = [] if listed is None else self._listed(listed)
        for images, labels in (("imagesTr", "labelsTr"), ("imagesTs", "labelsTs")):
            if images == "imagesTr" and listed is not None:
                continue
            found += self._in_folders(images, labels)
        return found

    def _in_folders(self, images: str, labels: str) -> list[_Case]:
        folder = self.root / images
        files = list(folder.iterdir()) if folder.is_dir() else []
        names = {case for file in files if (case := _case_of(file.name, self.ending)) is not None}
        present = {file.name: file for file in files}
        count = len(self.schema.channels)
        return [
            _Case(
                name,
                images,
                tuple(present.get(f"{name}_{number:04d}{self.ending}") for number in range(count)),
                self.root / labels / f"{name}{self.ending}",
            )
            for name in names
        ]

    def _listed(self, listed: object) -> list[_Case]:
        path = self.root / FILE
        if not isinstance(listed, dict):
            raise DatasetError(f"{path}, 'dataset': found {listed!r:.80}; it has to be an object of cases")
        cases = []
        for name, entry in listed.items():
            images = entry.get("images") if isinstance(entry, dict) else None
            label = entry.get("label") if isinstance(entry, dict) else None
            if (
                not isinstance(images, list)
                or len(images) != len(self.schema.channels)
                or not isinstance(label, str)
            ):
                raise DatasetError(
                    f"{path}, 'dataset', {name!r}: has to name an image per channel "
                    f"({len(self.schema.channels)}) under 'images', and its 'label'"
                )
            files = tuple(file if (file := self.root / str(image)).is_file() else None for image in images)
            cases.append(_Case(name, "imagesTr", files, self.root / label))
        return cases


def _case_of(name: str, ending: str | None) -> str | None:
    """The case of a file in imagesTr, or None where it is no image of one."""
    endings = ENDINGS if ending is None else (ending,)
    for known in endings:
        if is_volume_name(name) and name.endswith(known):
            match = _CHANNEL.fullmatch(name[: -len(known)])
            return match["case"] if match is not None else None
    return None


def _masks(given: Mapping[str, Any], path: Path, targets: Targets) -> dict[str, LabelMap]:
    """The mask columns that ``labels`` describes: one, or one per region."""
    if all(name.isdigit() for name in given):  # version 1: {"1": "liver"}
        given = {str(name): int(value) for value, name in given.items()}
    parts: dict[str, tuple[int, ...]] = {}
    for name, value in given.items():
        numbers = value if isinstance(value, list) else [value]
        if not numbers or not all(type(number) is int and number >= 0 for number in numbers):
            raise DatasetError(
                f"{path}, 'labels', {name!r}: found {value!r:.60}; a label is a whole number, a region a "
                "list of them"
            )
        parts[name] = tuple(dict.fromkeys(numbers))
    ignored = parts.pop("ignore", ())
    regions = {name: values for name, values in parts.items() if name != "background" and values != (0,)}
    if not any(len(values) > 1 for values in regions.values()):
        names: dict[int, str] = {}
        for name, (value,) in regions.items():
            if value in names:
                raise DatasetError(
                    f"{path}, 'labels': {names[value]!r} and {name!r} have the same value {value}"
                )
            names[value] = name
        plain = replace(plain_codes(names, f"{path}, 'labels'"), unlabelled=ignored)
        return {targets.mask: replace(plain, codes=targets.labels) if targets.labels else plain}
    return _regions(regions, ignored, path)


def _regions(
    regions: Mapping[str, Sequence[int]], ignored: tuple[int, ...], path: Path
) -> dict[str, LabelMap]:
    columns = {name: safe_name(name) for name in regions}
    if (doubled := first_doubled(columns.values())) is not None:
        raise DatasetError(f"{path}, 'labels': two regions would both be the column {doubled!r}; rename one")
    every = {value for values in regions.values() for value in values}
    return {
        columns[name]: LabelMap(
            {value: name if value in values else "elsewhere" for value in sorted(every - {0})},
            {name: 1},
            ignored,
        )
        for name, values in regions.items()
    }


def _first_fold(path: Path) -> dict[str, str]:
    """Who trains and who validates in the first fold; nothing where there is no such file.

    Raises:
        DatasetError: the file is no list of folds.
    """
    if not path.is_file():
        return {}
    try:
        folds = json.loads(path.read_text(encoding="utf-8"))
        first = folds[0]
        return {str(name): split for split in ("train", "val") for name in first[split]}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DatasetError(
            f"{path}: is no list of folds, each with lists 'train' and 'val' ({error}); correct or remove it"
        ) from error


def _load(case: _Case, split: str, description: _Description) -> LoadedCase:
    """Reads one case.

    Raises:
        CaseError: a channel is missing, or a file cannot be used.
    """
    files = []
    for number, file in enumerate(case.images):
        if file is None:
            channel = description.schema.channels[number]
            text = f"{case.name}: the image of channel {number} ({channel}) is missing"
            raise CaseError("NO_USABLE_SERIES", text)
        files.append(file)
    images = tuple(read_any(file) for file in files)
    for file, image in zip(files[1:], images[1:], strict=True):
        same_grid(file.name, image, images[0], "MIXED_GRID")
    labels = {}
    if case.label.is_file():
        mask = read_any(case.label)
        same_grid(f"{case.label.parent.name}/{case.label.name}", mask, images[0], "LABEL_GEOMETRY_MISMATCH")
        for name, mapping in description.masks.items():
            array = mapping.apply(mask.array, f"{case.label.parent.name}/{case.label.name}")
            labels[name] = Volume(array, images[0].geometry)
    patient, said, values = description.targets.of(case.name)
    return LoadedCase(patient, images, labels, values, split=said or split)
