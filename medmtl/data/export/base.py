"""What a layout has to say so that a dataset can be written in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from medmtl.data.dataset import FINDINGS_FILE, Dataset
from medmtl.registry import Registry
from medmtl.types import Finding

Progress = Callable[[int, int], None]
"""Called with the cases done and the cases in all."""


@dataclass(frozen=True)
class Written:
    """What a layout wrote.

    Attributes:
        cases: cases of the dataset that are in it.
        volumes: images of one frame (or whole 4D images, where the layout has them) that it holds.
        left_out: cases that are not in it, each with the reason.
        remarks: columns that the layout has no place for, and the like.
    """

    cases: int
    volumes: int
    left_out: tuple[Finding, ...] = ()
    remarks: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class ExportResult:
    """What an export made.

    Attributes:
        path: the folder.
        layout: its short name.
        written: what is in it.
        recognized: what the source was read as, and why.
        refused: cases of the source that could not be read, and cases that the layout cannot hold.
        note: what has to be done before the folder can be used, or blank.
    """

    path: Path
    layout: str
    written: Written
    recognized: str
    refused: list[Finding] = field(default_factory=list)
    note: str = ""


class Layout(ABC):
    """A layout of files that other programs read."""

    @abstractmethod
    def write(
        self, dataset: Dataset, folder: Path, *, mask: str | None = None, progress: Progress | None = None
    ) -> Written:
        """Writes a dataset.

        Args:
            dataset: what to write.
            folder: an empty folder.
            mask: the mask column to write, for layouts that have place for one; the first by default.
            progress: called after every case.

        Raises:
            ConfigError: there is no such mask, or the layout cannot hold the dataset.
        """

    def findings_file(self, folder: Path) -> Path:
        """Where the findings of the source go."""
        return folder / FINDINGS_FILE

    def note(self, output: Path) -> str:
        """What a user has to do before the folder can be used; nothing by default."""
        return ""


LAYOUTS: Registry[Layout] = Registry("layout", Layout)
