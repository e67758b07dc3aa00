"""Reads headers of files, and says what is wrong with each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, islice, repeat
from time import perf_counter, thread_time

from medmtl.data.dicom.checks import fault_of_pixels
from medmtl.data.dicom.dicomdir import is_directory
from medmtl.data.dicom.header import Header, undecodable_in
from medmtl.data.dicom.model import Instance, Source
from medmtl.data.dicom.opened import NotDicomError, UnreadableError, open_source
from medmtl.data.dicom.outcome import Outcome
from medmtl.data.dicom.template import Templates
from medmtl.types import Finding

_CALLED_DICOM = (".dcm", ".dicom", ".ima")
_TRIED, _THREADS, _SLOW_S = 16, 8, 0.002
"""Files that are read one by one at first; threads for the rest, where each took longer to arrive."""


def read_source(source: Source, templates: Templates | None = None) -> Outcome:
    """Header of one file, and what is wrong with it.

    Args:
        source: its bytes.
        templates: what was learned of files like it.
    """
    label = source.label
    try:
        instance, size, cut = open_source(source, templates)
    except NotDicomError:
        finding = _not_dicom(source)
        return Outcome(finding=finding, foreign=finding is None)
    except UnreadableError as error:
        return Outcome(finding=Finding("UNDECODABLE", "error", f"{label} {error}; copy it anew", label))
    except OSError as error:
        reason = error.strerror or str(error)
        return Outcome(finding=Finding("UNDECODABLE", "error", f"{label} cannot be read ({reason})", label))
    if is_directory(instance.header):
        return Outcome()
    fault = fault_of_pixels(instance, size, cut=cut)
    if fault is not None:
        instance = Instance(instance.source, instance.header, instance.transfer_syntax, None)
    return Outcome(instance, instance.header.get("SOPInstanceUID") or "", fault)


def _not_dicom(source: Source) -> Finding | None:
    """What to say of a file that is no DICOM, but looks by its name as if it were."""
    label = source.label
    name = label.rpartition("/")[2].lower()
    if not name.endswith(_CALLED_DICOM) and "." in name:
        return None
    if source.size() == 0:
        return Finding("TRUNCATED", "error", f"{label} is empty; copy it anew", label)
    if not name.endswith(_CALLED_DICOM):
        return None
    return Finding("UNDECODABLE", "error", f"{label} is called DICOM and is none; copy it anew", label)


class Reader:
    """Reads files; the headers of a series share what is equal in them."""

    def __init__(self) -> None:
        self._first: dict[object, Header] = {}
        self._templates = Templates()

    def read(self, sources: Iterable[Source], tick: Callable[[], None]) -> list[Outcome]:
        """What comes of files.

        Args:
            sources: of the files.
            tick: called after each.
        """
        outcomes = []
        for outcome in _read_all(iter(sources), self._templates):
            if outcome.instance is not None:
                outcome = outcome._replace(instance=self._sharing(outcome.instance))
            outcomes.append(outcome)
            tick()
        return _with_wrong(outcomes)

    def _sharing(self, instance: Instance) -> Instance:
        """The instance, its header sharing what is equal with the first of its series."""
        header = instance.header
        first = self._first.setdefault(header.raw("SeriesInstanceUID"), header)
        if first is header:
            return instance
        return Instance(instance.source, header.upon(first), instance.transfer_syntax, instance.pixels)


def _read_all(sources: Iterator[Source], templates: Templates) -> Iterator[Outcome]:
    """What comes of files, in their order; several at once where a disk or network takes most of the time.

    Python walks one header at a time, so threads only help to wait.
    """
    began, worked, files = perf_counter(), thread_time(), 0
    for source in islice(sources, _TRIED):
        yield read_source(source, templates)
        files += 1
    waited = (perf_counter() - began) - (thread_time() - worked)
    if files == _TRIED and waited > _SLOW_S * files:
        with ThreadPoolExecutor(_THREADS) as pool:
            yield from pool.map(read_source, sources, repeat(templates))
    else:
        yield from map(read_source, sources, repeat(templates))


def _with_wrong(outcomes: list[Outcome]) -> list[Outcome]:
    """The same, with the elements that make no sense."""
    numbers = [number for number, outcome in enumerate(outcomes) if outcome.instance is not None]
    headers = (outcome.instance.header for outcome in outcomes if outcome.instance is not None)
    for place, wrong in groupby(undecodable_in(headers), key=lambda found: found[0]):
        number = numbers[place]
        outcomes[number] = outcomes[number]._replace(wrong=tuple(keyword for _, keyword in wrong))
    return outcomes
