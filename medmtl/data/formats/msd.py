"""Medical Segmentation Decathlon: ``dataset.json`` lists images, labels and what their numbers mean.

Antonelli et al. 2022, doi 10.1038/s41467-022-30695-9. Several modalities are the last axis of one 4D image.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
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
    section,
    text_of,
)
from medmtl.data.formats.labels import LabelMap, plain_codes
from medmtl.data.formats.volumes import read_any, same_grid, stem
from medmtl.data.nifti import Volume
from medmtl.types import UNLABELLED, CaseError, DatasetError


@FORMATS.register("msd")
class MSD(DatasetFormat):
    """A task of the Medical Segmentation Decathlon, or a data set in its layout; ``test`` stays test."""

    looks_for: ClassVar[str] = f"{FILE} with a list 'training' of images and labels that are there"
    rank: ClassVar[int] = 2

    def recognizes(self, path: Path) -> str | None:
        """``dataset.json`` whose first training image has the name that it is listed under."""
        if not (path / FILE).is_file():
            return None
        try:
            data = read_json(path / FILE)
        except DatasetError:
            numbered = any((path / "imagesTr").glob("*_0000.*"))
            return (
                f"a {FILE} (which cannot be read) beside imagesTr"
                if _has_images(path) and not numbered
                else None
            )
        training = data.get("training")
        if not isinstance(training, list) or not training or "channel_names" in data:
            return None
        listed = [image for entry in training[:20] if (image := _image_of(entry)) is not None]
        if any((path / image).is_file() for image in listed):
            return f"{FILE}, which lists {len(training)} training images"
        return None

    def schema(self, path: Path) -> Schema:
        """The channels of ``modality``, one mask column with the structures of ``labels``, and targets."""
        return _Description.read(path).schema

    def read(self, path: Path) -> Iterable[RawCase]:
        """The cases of ``training`` and ``test``, by name."""
        description = _Description.read(path)
        entries = [(entry, "") for entry in description.entries("training")]
        entries += [(entry, "test") for entry in description.entries("test")]
        for entry, split in sorted(entries, key=lambda found: stem(found[0].image.name)):
            case_id = stem(entry.image.name)
            where = entry.image.relative_to(path).as_posix()
            yield RawCase(case_id, where, partial(_load, entry, case_id, split, description))


@dataclass(frozen=True)
class _Entry:
    """One listed case; the label is None where nobody says where it is."""

    image: Path
    label: Path | None


@dataclass(frozen=True)
class _Description:
    """What ``dataset.json`` says."""

    root: Path
    data: Mapping[str, Any]
    labels: LabelMap
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
        targets = read_targets(root, data)
        channels = targets.channels or channel_names(data, "modality", path)
        labels = _labels(section(data, "labels", path), path)
        if targets.labels:
            labels = replace(labels, codes=targets.labels)
        columns = {targets.mask: Column(targets.mask, "mask", labels=labels.codes), **targets.columns}
        schema = Schema(
            text_of(data, "name") or root.resolve().name,
            targets.modality or modality_of(channels),
            channels,
            columns,
            None,
            text_of(data, "reference"),
            text_of(data, "licence", "license"),
        )
        return cls(root, data, labels, targets, schema)

    def entries(self, key: str) -> list[_Entry]:
        """The cases of ``training`` or ``test``.

        Raises:
            DatasetError: an entry names no image, or one outside of the folder.
        """
        listed = self.data.get(key, [])
        if not isinstance(listed, list):
            raise DatasetError(f"{self.root / FILE}, {key!r}: found {listed!r:.80}; it has to be a list")
        found = []
        for number, entry in enumerate(listed):
            image = _image_of(entry)
            if image is None:
                raise DatasetError(
                    f"{self.root / FILE}, {key}[{number}]: found {entry!r:.80}, which names no image"
                )
            if PurePosixPath(image).name.startswith("._"):
                continue  # macOS's twin of a file, which some archives list
            label = entry.get("label") if isinstance(entry, dict) else None
            if label is None:
                beside = self.root / ("labelsTs" if key == "test" else "labelsTr") / PurePosixPath(image).name
                found.append(_Entry(self._inside(image), beside if beside.is_file() else None))
            else:
                found.append(_Entry(self._inside(image), self._inside(str(label))))
        return found

    def _inside(self, name: str) -> Path:
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            raise DatasetError(
                f"{self.root / FILE}: names {name!r}, which is not in this folder; list relative paths"
            )
        return self.root / path


def _has_images(path: Path) -> bool:
    return any((path / name).is_dir() for name in ("imagesTr", "labelsTr"))


def _image_of(entry: object) -> str | None:
    image = entry.get("image") if isinstance(entry, dict) else entry
    return image if isinstance(image, str) and image.strip() else None


def _labels(given: Mapping[str, Any], path: Path) -> LabelMap:
    """``{"0": "background", "1": "liver"}``; a value named ``ignore`` means "not labelled"."""
    names: dict[int, str] = {}
    ignored = []
    for text, name in given.items():
        if not text.lstrip("-").isdigit() or not isinstance(name, str) or not name.strip():
            raise DatasetError(
                f"{path}, 'labels': found {text!r}: {name!r:.60}; write numbers and names, such as "
                '"1": "liver"'
            )
        value = int(text)
        if name.strip().lower() == "ignore" or value == UNLABELLED:
            ignored.append(value)
        elif value != 0:
            names[value] = name.strip()
    return replace(plain_codes(names, f"{path}, 'labels'"), unlabelled=tuple(ignored))


def _load(entry: _Entry, case_id: str, split: str, description: _Description) -> LoadedCase:
    """Reads one case.

    Raises:
        CaseError: a file cannot be used.
    """
    images = _channels(read_any(entry.image), len(description.schema.channels), entry.image.name)
    labels = {}
    if entry.label is not None:
        mask = read_any(entry.label)
        same_grid(entry.label.name, mask, images[0], "LABEL_GEOMETRY_MISMATCH")
        array = description.labels.apply(mask.array, entry.label.name)
        labels[description.targets.mask] = Volume(array, images[0].geometry)
    patient, said, values = description.targets.of(case_id)
    return LoadedCase(patient, images, labels, values, split=said or split)


def _channels(image: Volume, count: int, name: str) -> tuple[Volume, ...]:
    """One volume per modality."""
    frames = image.geometry.frames
    if count == 1 and image.array.ndim == 3:
        return (image,)
    if image.array.ndim != 4 or frames != count:
        raise CaseError(
            "MIXED_GRID", f"{name}: holds {frames} channel(s), and {FILE} names {count} under 'modality'"
        )
    geometry = replace(image.geometry, frames=1)
    return tuple(Volume(image.array[..., number], geometry) for number in range(count))
