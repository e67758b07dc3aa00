"""Which files belong to which study, over all sources, without keeping their headers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from medmtl.data.dicom.instances import gather, read_instances
from medmtl.data.dicom.model import Instance, Source
from medmtl.data.dicom.outcome import Outcome
from medmtl.data.dicom.reading import Reader
from medmtl.data.dicom.sources import BATCH, Batch, Search
from medmtl.data.staging import is_dataset
from medmtl.inference.find.place import Place, place_of
from medmtl.types import CaseError, Finding

KEPT = 30_000
"""Files whose headers are kept; beyond that, those of a study are read again when it is its turn."""
NIFTI = (".nii.gz", ".nii")
Progress = Callable[[int, int], None]


@dataclass
class StudyFiles:
    """The files of one study.

    Attributes:
        uid: StudyInstanceUID; blank where the files say none.
        places: where they are.
        kept: what was read of them; None where it has to be read again.
    """

    uid: str
    places: list[Place] = field(default_factory=list)
    kept: list[tuple[Sequence[Source], Sequence[Outcome]]] | None = field(default_factory=list)

    def instances(self) -> tuple[list[Instance], list[Finding]]:
        """Headers of its files, and what was found on the way.

        Raises:
            CaseError: an archive cannot be opened again.
        """
        if self.kept is not None:
            return gather(self.kept)
        sources = [source for place in self.places for source in place.sources()]
        found, findings = read_instances(sources)
        return [one for one in found if (one.header.get("StudyInstanceUID") or "") == self.uid], findings


@dataclass
class Unreadable:
    """A folder or archive of which nothing could be read.

    Attributes:
        path: absolute.
        code: of the first reason.
        message: which names the file ``label``.
        label: of the file.
    """

    path: str
    code: str
    message: str
    label: str


class StudyIndex:
    """Reads the headers of all files once, and keeps where each study's files are.

    Args:
        paths: what the user named.
        progress: told how many files were read, and how many were found so far.

    Attributes:
        studies: in the order in which they were met.
        nifti: absolute paths of NIfTI files.
        datasets: folders with a ``dataset.yaml``.
        unreadable: folders and archives of which nothing could be read.
        findings: about files that belong to no study.
        counts: number of files directly in each folder.
    """

    def __init__(self, paths: Sequence[Path], progress: Progress | None = None) -> None:
        self.studies: dict[tuple[str, str], StudyFiles] = {}
        self.nifti: list[str] = []
        self.datasets: list[str] = []
        self.unreadable: list[Unreadable] = []
        self.counts: dict[str, int] = {}
        self._held = 0
        self._done = 0
        reader, search = Reader(), Search(paths)
        for batch in search.batches():
            self._add(batch, reader)
            self._done += len(batch.sources)
            if progress is not None:
                progress(self._done, max(self._done, search.expected))
        self.findings = list(search.findings)
        for finding in search.findings:
            if finding.severity == "error":
                where = _absolute(finding.where, paths)
                self.unreadable.append(Unreadable(where, finding.code, finding.message, finding.where))

    def __iter__(self) -> Iterator[StudyFiles]:
        """The studies, each handed out once and then forgotten."""
        for key in list(self.studies):
            yield self.studies.pop(key)

    def _add(self, batch: Batch, reader: Reader) -> None:
        if not batch.sources:
            return
        place = place_of(batch)
        if not place.archive:
            self._note(place, batch.names)
        chosen = [
            (name, source)
            for name, source in zip(batch.names, batch.sources, strict=True)
            if place.archive or not name.lower().endswith(NIFTI)
        ]
        outcomes = reader.read((source for _, source in chosen), lambda: None)
        groups: dict[str, list[int]] = {}
        for number, outcome in enumerate(outcomes):
            if outcome.instance is not None:
                uid = outcome.instance.header.get("StudyInstanceUID") or ""
                groups.setdefault(uid, []).append(number)
        if not groups:
            self._note_unreadable(place, outcomes)
        for uid, numbers in groups.items():
            alone = len(groups) == 1
            names = None if alone and len(batch.names) < BATCH else [chosen[n][0] for n in numbers]
            # what is wrong with other files is this study's business where it has the folder alone
            mine = range(len(chosen)) if alone else numbers
            read = ([chosen[n][1] for n in mine], [outcomes[n] for n in mine])
            self._keep(uid, replace(place, names=names), read)

    def _note_unreadable(self, place: Place, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            told = outcome.finding
            if told is not None and told.severity == "error":
                self.unreadable.append(Unreadable(place.path, told.code, told.message, told.where))
                return

    def _note(self, place: Place, names: Sequence[str]) -> None:
        folder = place.path if place.is_folder else os.path.dirname(place.path)  # noqa: PTH120
        if place.is_folder:
            self.counts[folder] = self.counts.get(folder, 0) + len(names)
            if is_dataset(Path(folder)):
                self.datasets.append(folder)
        start = os.path.join(folder, "")  # noqa: PTH118
        self.nifti += [start + name for name in names if name.lower().endswith(NIFTI)]

    def _keep(self, uid: str, place: Place, read: tuple[Sequence[Source], Sequence[Outcome]]) -> None:
        study = self.studies.setdefault((uid, "" if uid else place.path), StudyFiles(uid))
        study.places.append(place)
        if study.kept is None:
            return
        study.kept.append(read)
        self._held += len(read[0])
        if self._held > KEPT:
            for other in self.studies.values():
                other.kept = None
            self._held = 0


def _absolute(label: str, paths: Sequence[Path]) -> str:
    """The path behind a label of the search, which starts at one of the paths, or at its name."""
    below = label.partition("/")[2]
    for path in paths:
        for candidate in (path if path.name == label else path / label, path / below, path.parent / below):
            if (below or path.name == label or candidate != path) and candidate.exists():
                return os.path.abspath(candidate)  # noqa: PTH100
    return label


def read_again(study: StudyFiles) -> tuple[list[Instance], list[Finding]]:
    """`StudyFiles.instances`, with what went wrong as findings."""
    try:
        return study.instances()
    except CaseError as error:
        return [], [Finding(error.code, "error", str(error))]
    except OSError as error:
        text = f"its files cannot be read any more ({error.strerror or error}); see what moves them"
        return [], [Finding("NO_USABLE_SERIES", "error", text)]
