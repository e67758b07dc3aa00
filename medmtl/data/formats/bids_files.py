"""Files of a BIDS data set, by what their names say: subject, session, run, kind.

Gorgolewski et al. 2016, doi 10.1038/sdata.2016.44; the names of derivatives as in version 1.4 and later.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from medmtl.data.formats.volumes import NIFTI, files_below, stem

IMAGE_FOLDERS = ("anat", "func", "pet", "perf", "ct")
MASK_SUFFIXES = ("dseg", "mask")

_ENTITY = re.compile(r"([a-z]+)-([A-Za-z0-9+]+)")
_DERIVED = ("desc", "label", "seg", "atlas", "space", "res", "den", "from", "to")
"""Entities that tell a derivative from the image that it was made of."""


@dataclass(frozen=True)
class BidsFile:
    """A file whose name follows BIDS.

    Attributes:
        path: the file.
        entities: ``{"sub": "01", "task": "rest"}`` in the order of the name.
        suffix: the last part of the name, such as ``T1w``.
        pipeline: folder below ``derivatives``, or blank.
    """

    path: Path
    entities: Mapping[str, str]
    suffix: str
    pipeline: str = ""

    @property
    def case(self) -> tuple[str, str, str]:
        """Subject, session and run; the latter two may be blank."""
        return (self.entities["sub"], self.entities.get("ses", ""), self.entities.get("run", ""))

    @property
    def kind(self) -> str:
        """The name without subject, session and run: ``T1w``, ``task-rest_bold``, ``desc-brain_mask``."""
        kept = [f"{key}-{value}" for key, value in self.entities.items() if key not in ("sub", "ses", "run")]
        return "_".join([*kept, self.suffix])

    @property
    def folder(self) -> str:
        """Data type: the folder that it is in."""
        return self.path.parent.name

    def may_belong_to(self, image: BidsFile) -> bool:
        """Whether a mask of this name can have been drawn on an image of that name."""
        said = {key: value for key, value in self.entities.items() if key not in _DERIVED}
        if self.folder != image.folder or any(
            image.entities.get(key) != value
            for key, value in said.items()
            if key not in ("sub", "ses", "run")
        ):
            return False
        return self.entities.get("space", "orig") in ("orig", "individual", "native", image.suffix)


def parse(path: Path, pipeline: str = "") -> BidsFile | None:
    """What a file's name says, or None where it does not follow BIDS."""
    *parts, suffix = stem(path.name).split("_")
    entities: dict[str, str] = {}
    for part in parts:
        match = _ENTITY.fullmatch(part)
        if match is None or match[1] in entities:
            return None
        entities[match[1]] = match[2]
    if "sub" not in entities or not suffix.isalnum():
        return None
    return BidsFile(path, entities, suffix, pipeline)


def images(root: Path) -> list[BidsFile]:
    """The images of all subjects, by path; masks and derivatives left out."""
    found = (file for file in _files(root, "") if file.folder in IMAGE_FOLDERS)
    return [file for file in found if file.suffix not in MASK_SUFFIXES and "desc" not in file.entities]


def derivatives(root: Path) -> list[BidsFile]:
    """Files below ``derivatives``, and masks that lie among the images, by path."""
    found = [file for file in _files(root, "") if file.suffix in MASK_SUFFIXES or "desc" in file.entities]
    folder = root / "derivatives"
    pipelines = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    found += _files(folder, "")
    for pipeline in pipelines:
        if not pipeline.name.startswith("sub-"):
            found += _files(pipeline, pipeline.name)
    return found


def _files(root: Path, pipeline: str) -> Iterator[BidsFile]:
    folders = sorted(path for path in root.glob("sub-*") if path.is_dir())
    for folder in folders:
        for path in files_below(folder, 2):
            if path.name.lower().endswith(NIFTI) and (file := parse(path, pipeline)) is not None:
                yield file
