"""A folder, an archive or a file that holds files of a study."""

from __future__ import annotations

import os
from dataclasses import dataclass

from medmtl.data.dicom.files import FileSource
from medmtl.data.dicom.model import Source
from medmtl.data.dicom.sources import Batch
from medmtl.inference.find.places import is_leaf, members_of


@dataclass
class Place:
    """A folder, an archive or a file.

    Attributes:
        path: absolute.
        label: what the labels of its files start with; its own label where it is one file.
        archive: its files are members of an archive.
        names: of the files of one study; None for all.
    """

    path: str
    label: str
    archive: bool
    names: list[str] | None = None

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder (and not a file)."""
        return os.path.isdir(self.path)  # noqa: PTH112

    def paths(self) -> list[str]:
        """The archive, the folder where nothing else is in it, or the files."""
        if self.archive or (self.names is None and (not self.is_folder or is_leaf(self.path))):
            return [self.path]
        return [source.path for source in self.sources() if isinstance(source, FileSource)]

    def sources(self) -> list[Source]:
        """The files.

        Raises:
            CaseError: the archive cannot be opened again.
        """
        if self.archive:
            wanted = None if self.names is None else set(self.names)
            members = members_of(self.path, self.label)
            return [m for m in members if wanted is None or getattr(m, "name", "") in wanted]
        if os.path.isfile(self.path):  # noqa: PTH113
            return [FileSource(self.path, self.label)]
        names = sorted(os.listdir(self.path)) if self.names is None else self.names  # noqa: PTH208
        start = os.path.join(self.path, "")  # noqa: PTH118
        return [
            FileSource(start + name, self.label + name)
            for name in names
            if self.names is not None or os.path.isfile(start + name)  # noqa: PTH113
        ]


def place_of(batch: Batch) -> Place:
    """Where the files of a batch are."""
    name, source = batch.names[0], batch.sources[0]
    if not isinstance(source, FileSource):
        path = os.path.abspath(batch.place)  # noqa: PTH100
        return Place(path, source.label.removesuffix(f"/{name}"), archive=True)
    path = os.path.abspath(source.path)  # noqa: PTH100
    if source.path == batch.place:
        return Place(path, source.label, archive=False)
    start, slash, _ = source.label.rpartition("/")
    return Place(os.path.dirname(path), start + slash, archive=False)  # noqa: PTH120
