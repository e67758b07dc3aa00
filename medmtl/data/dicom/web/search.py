"""QIDO: which studies there are, and which series they hold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from medmtl.data.dicom.web.address import checked_uid
from medmtl.data.dicom.web.server import Server
from medmtl.types import CaseError, ConfigError

PAGE = 200
NO_IMAGES = frozenset({"AU", "DOC", "ECG", "KO", "PLAN", "PR", "RTPLAN", "RTRECORD", "RTSTRUCT", "SEG", "SR"})
"""Modalities of series that hold no images that were acquired, and to which results are added."""


@dataclass(frozen=True, order=True)
class WebSeries:
    """A series as a PACS lists it.

    Attributes:
        uid: SeriesInstanceUID.
        modality: such as ``MR``; empty where not said.
        instances: how many, or None where not said.
    """

    uid: str
    modality: str = ""
    instances: int | None = None


def find_studies(server: Server) -> Iterator[str]:
    """StudyInstanceUIDs that the server's address means, page by page, each once.

    Yields:
        those that the address names, unasked; otherwise those that the service finds.

    Raises:
        CaseError: the service fails; its code begins with ``PACS_``.
    """
    address = server.address
    if address.uids and not address.filters:
        yield from address.uids
        return
    wanted, seen, offset = set(address.uids), set[str](), 0
    while True:
        page = server.ask("searching for studies", partial(_page, server, offset))
        found = [uid for uid in (_uid(entry, "0020000D", server) for entry in page) if uid not in seen]
        yield from (uid for uid in dict.fromkeys(found) if not wanted or uid in wanted)
        if not found:  # the end, or a service that ignores the offset
            return
        seen.update(found)
        offset += len(page)


def find_series(server: Server, study_uid: str) -> tuple[WebSeries, ...]:
    """The series of a study, sorted by UID.

    Raises:
        CaseError: ``PACS_NOT_FOUND`` where there is no such study, or the service fails.
    """
    uid, series, offset = checked_uid(study_uid), dict[str, WebSeries](), 0
    while True:
        page = server.ask("listing series", partial(_series_page, server, uid, offset))
        new = {
            entry.uid: entry for entry in (_series(raw, server) for raw in page) if entry.uid not in series
        }
        if not new:
            break
        series.update(new)
        offset += len(page)
    if not series:
        raise CaseError(
            "PACS_NOT_FOUND", f"{server.address.host}: has no study {uid}; check the UID, and who may see it"
        )
    return tuple(sorted(series.values()))


def fingerprint_of(series: Sequence[WebSeries]) -> str:
    """Changes when images come to a study or leave it, not when results do (SEG, SR, ...)."""
    images = [entry for entry in sorted(series) if entry.modality not in NO_IMAGES]
    text = "\n".join(f"{entry.uid} {entry.instances}" for entry in images)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _page(server: Server, offset: int) -> Sequence[Mapping[str, Any]]:
    return server.client.search_for_studies(
        limit=PAGE, offset=offset, search_filters=dict(server.address.filters)
    )


def _series_page(server: Server, uid: str, offset: int) -> Sequence[Mapping[str, Any]]:
    return server.client.search_for_series(
        study_instance_uid=uid,
        limit=PAGE,
        offset=offset,
        fields=["NumberOfSeriesRelatedInstances", "Modality"],
    )


def _series(entry: Mapping[str, Any], server: Server) -> WebSeries:
    count = _value(entry, "00201209")
    modality = _value(entry, "00080060")
    return WebSeries(
        _uid(entry, "0020000E", server),
        modality if isinstance(modality, str) else "",
        int(count) if isinstance(count, int | str) and str(count).isdigit() else None,
    )


def _uid(entry: Mapping[str, Any], tag: str, server: Server) -> str:
    value = _value(entry, tag)
    try:
        return checked_uid(value if isinstance(value, str) else "")
    except ConfigError:
        raise CaseError(
            "PACS_FAILED",
            f"{server.address.host}: a search result has no valid UID; check the path of the address",
        ) from None


def _value(entry: Mapping[str, Any], tag: str) -> Any:
    """First value of an element in DICOM's JSON (PS3.18 F.2)."""
    element = entry.get(tag)
    values = element.get("Value") if isinstance(element, Mapping) else None
    return values[0] if isinstance(values, Sequence) and values else None
