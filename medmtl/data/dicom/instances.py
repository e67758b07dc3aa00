"""Reads the headers of all files of a scan, and says which files are not what they should be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from medmtl.data.dicom.cache import HeaderCache
from medmtl.data.dicom.copies import without_copies
from medmtl.data.dicom.model import Instance, Source
from medmtl.data.dicom.outcome import Outcome
from medmtl.data.dicom.reading import Reader
from medmtl.data.dicom.remembered import read_remembered
from medmtl.data.dicom.sources import Search
from medmtl.data.dicom.tally import Tally
from medmtl.types import Finding

_EVERY = 64
"""Files between two reports of progress."""

Progress = Callable[[int, int], None]


def read_instances(
    sources: Iterable[Source], *, cache: Path | None = None, progress: Progress | None = None
) -> tuple[list[Instance], list[Finding]]:
    """Headers of files; their pixels stay unread.

    Files that lack pixels that they should have are kept with ``pixels`` None, and a finding says so.

    Args:
        sources: as ``find_sources`` gives them, or others.
        cache: file that remembers headers between scans (see ``default_cache``); None remembers nothing.
        progress: told from time to time how many files were read, and how many were found so far.

    Returns:
        The files in the order of their labels, each once, and what was found on the way.
    """
    reader, gathered, ticker = Reader(), _Gathered(), _Ticker(sources, progress)
    if not isinstance(sources, Search):
        listed = list(sources)
        gathered.add(listed, reader.read(listed, ticker.tick))
    elif cache is None:
        for batch in sources.batches():
            gathered.add(batch.sources, reader.read(batch.sources, ticker.tick))
    else:
        with HeaderCache(cache) as remembered:
            for batch in sources.batches():
                gathered.add(batch.sources, read_remembered(batch, remembered, reader, ticker.tick))
    ticker.end()
    findings = sources.findings if isinstance(sources, Search) else []
    return gathered.result(findings)


def gather(
    read: Iterable[tuple[Sequence[Source], Sequence[Outcome]]], findings: Iterable[Finding] = ()
) -> tuple[list[Instance], list[Finding]]:
    """The same of files that were read already.

    Args:
        read: files, and what came of them.
        findings: what is to be said besides.
    """
    gathered = _Gathered()
    for sources, outcomes in read:
        gathered.add(sources, outcomes)
    return gathered.result(findings)


class _Ticker:
    """Reports progress from time to time."""

    def __init__(self, sources: Iterable[Source], progress: Progress | None) -> None:
        self._sources = sources
        self._progress = progress
        self._done = 0

    def tick(self, files: int = 1) -> None:
        """So many files more were read."""
        self._done += files
        if self._progress is not None and (self._done % _EVERY == 0 or files > 1):
            expected = self._sources.expected if isinstance(self._sources, Search) else self._done
            self._progress(self._done, max(self._done, expected))

    def end(self) -> None:
        """All were read."""
        if self._progress is not None:
            self._progress(self._done, self._done)


class _Gathered:
    """What came of all files."""

    def __init__(self) -> None:
        self._instances: list[Instance] = []
        self._uids: list[str] = []
        self._findings: list[Finding] = []
        self._foreign = Tally()
        self._wrong: dict[str, Tally] = {}

    def add(self, sources: Sequence[Source], outcomes: Sequence[Outcome]) -> None:
        for source, (instance, uid, finding, foreign, wrong) in zip(sources, outcomes, strict=True):
            if instance is not None:
                self._instances.append(instance)
                self._uids.append(uid)
            if finding is not None:
                self._findings.append(finding)
            if foreign:
                self._foreign.add(source.label)
            for keyword in wrong:
                self._wrong.setdefault(keyword, Tally()).add(source.label)

    def result(self, findings: Iterable[Finding]) -> tuple[list[Instance], list[Finding]]:
        """Files in the order of their labels, without copies, and all that is to be said."""
        self._instances.sort(key=lambda instance: instance.source.label)
        distinct = len(set(self._uids)) == len(self._uids)
        instances, about_copies = (self._instances, []) if distinct else without_copies(self._instances)
        said = [*findings, *self._findings, *about_copies, *self._about_elements(), *self._about_others()]
        return instances, sorted(said, key=lambda finding: (finding.where, finding.code, finding.message))

    def _about_elements(self) -> list[Finding]:
        said = []
        for keyword, tally in self._wrong.items():
            files = tally.of("file", "files")
            message = f"{keyword} makes no sense in {files} and is taken as absent: {tally.examples()}"
            said.append(Finding("UNDECODABLE", "warning", message, tally.first))
        return said

    def _about_others(self) -> list[Finding]:
        if not self._foreign.count:
            return []
        files = self._foreign.of("file is", "files are")
        message = f"{files} no DICOM and left out: {self._foreign.examples()}"
        return [Finding("NOT_AN_IMAGE", "info", message, self._foreign.first)]
