"""Reads headers of files, and says what is wrong with each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby

from medmtl.data.dicom.checks import fault_of_pixels
from medmtl.data.dicom.dicomdir import is_directory
from medmtl.data.dicom.header import Header, undecodable_in
from medmtl.data.dicom.model import Instance, Source
from medmtl.data.dicom.opened import NotDicomError, UnreadableError, open_source
from medmtl.data.dicom.outcome import Outcome
from medmtl.types import Finding

_CALLED_DICOM = (".dcm", ".dicom", ".ima")


def read_source(source: Source) -> Outcome:
    """Header of one file, and what is wrong with it."""
    label = source.label
    try:
        instance, size, cut = open_source(source)
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

    def read(self, sources: Iterable[Source], tick: Callable[[], None]) -> list[Outcome]:
        """What comes of files.

        Args:
            sources: of the files.
            tick: called after each.
        """
        outcomes = []
        for source in sources:
            outcome = read_source(source)
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


def _with_wrong(outcomes: list[Outcome]) -> list[Outcome]:
    """The same, with the elements that make no sense."""
    numbers = [number for number, outcome in enumerate(outcomes) if outcome.instance is not None]
    headers = (outcome.instance.header for outcome in outcomes if outcome.instance is not None)
    for place, wrong in groupby(undecodable_in(headers), key=lambda found: found[0]):
        number = numbers[place]
        outcomes[number] = outcomes[number]._replace(wrong=tuple(keyword for _, keyword in wrong))
    return outcomes
