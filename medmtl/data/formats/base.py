"""What a dataset format has to say so that ingest can read it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from medmtl.data.columns import Schema
from medmtl.data.nifti import Volume
from medmtl.data.splits import DEFAULT_FRACTIONS
from medmtl.registry import Registry
from medmtl.types import DatasetError, Finding


@dataclass(frozen=True)
class LoadedCase:
    """All of one case, in memory.

    Attributes:
        patient: cases of one patient are kept in one split.
        images: one volume per channel, ``(X, Y, Z)`` or ``(X, Y, Z, T)``, in the schema's order.
        labels: a volume on the images' grid for each labelled mask or map column.
        values: the category and value columns that are known.
        frame_ed: 0-based frame of end diastole, where known.
        frame_es: 0-based frame of end systole, where known.
        split: ``train``, ``val`` or ``test`` where the source says so; blank lets ingest choose.
        findings: what was worth knowing, though the case can be used.
    """

    patient: str
    images: tuple[Volume, ...]
    labels: Mapping[str, Volume] = field(default_factory=dict)
    values: Mapping[str, float | str] = field(default_factory=dict)
    frame_ed: int | None = None
    frame_es: int | None = None
    split: str = ""
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class RawCase:
    """A case that was found and not read yet.

    Attributes:
        case_id: unique in the source, safe as a file name.
        where: its folder or file relative to the source, for messages.
        load: reads it; raises CaseError where it cannot be used. Called from several threads, once per case.
    """

    case_id: str
    where: str
    load: Callable[[], LoadedCase]


@dataclass(frozen=True)
class Found:
    """What a format found in its sources.

    Attributes:
        schema: what the columns of the dataset will mean.
        cases: in the order of their names, voxels not read yet.
        findings: about what belongs to no case, such as files that were left out.
    """

    schema: Schema
    cases: tuple[RawCase, ...]
    findings: tuple[Finding, ...] = ()


class DatasetFormat(ABC):
    """A layout of files that ingest turns into a dataset folder.

    Attributes:
        looks_for: what ``recognizes`` looks for, as the end of the sentence "looked for ...".
        fractions: how patients are split where the source and the user say nothing.
        stratify_by: category column whose classes get a proportional share of each split.
        rank: how much its layout says: 3 for one data set's own names, 2 for a general layout with a file
            that describes it, 1 for a table, 0 for files of one kind in any folder. Where several formats
            recognize a folder, the highest rank reads it.
    """

    looks_for: ClassVar[str]
    fractions: ClassVar[Mapping[str, float]] = DEFAULT_FRACTIONS
    stratify_by: ClassVar[str | None] = None
    rank: ClassVar[int] = 3

    @abstractmethod
    def recognizes(self, path: Path) -> str | None:
        """Why this folder is of this format, or None when it is not; looks at names only."""

    @abstractmethod
    def schema(self, path: Path) -> Schema:
        """What the columns of the dataset will mean."""

    @abstractmethod
    def read(self, path: Path) -> Iterable[RawCase]:
        """The cases in the order of their names, without reading voxels.

        Raises:
            DatasetError: a file that all cases need is missing or cannot be read.
        """

    def find(self, paths: Sequence[Path], *, strict: bool = False) -> Found:
        """Schema and cases of one source or several; by default each is read by itself.

        Args:
            paths: the sources.
            strict: refuse what could only be used after a correction.

        Raises:
            DatasetError: as `read`, or the sources' columns differ.
        """
        schemas = [self.schema(path) for path in paths]
        for path, schema in zip(paths[1:], schemas[1:], strict=True):
            if replace(schema, name=schemas[0].name) != schemas[0]:
                raise DatasetError(
                    f"{path}: has other columns than {paths[0]}; ingest them into a dataset each"
                )
        return Found(schemas[0], tuple(case for path in paths for case in self.read(path)))


FORMATS: Registry[DatasetFormat] = Registry("dataset format", DatasetFormat)
