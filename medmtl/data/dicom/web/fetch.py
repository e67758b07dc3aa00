"""WADO: a study into a folder, series by series, each complete or tried again."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from medmtl.data.dicom.web.address import Address, checked_uid
from medmtl.data.dicom.web.failures import MultipartError
from medmtl.data.dicom.web.multipart import boundary_of, write_parts
from medmtl.data.dicom.web.search import WebSeries, find_series
from medmtl.data.dicom.web.server import Check, Patience, Server
from medmtl.types import ConfigError

if TYPE_CHECKING:
    from requests import Response

_CHUNK = 1 << 20
_ANY = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_EXPLICIT = 'multipart/related; type="application/dicom"'


@contextmanager
def fetched_study(
    address: Address,
    *,
    patience: Patience | None = None,
    check: Check | None = None,
    modalities: Collection[str] = (),
) -> Iterator[tuple[Path, tuple[WebSeries, ...]]]:
    """One study in a temporary folder, which is gone when the block ends.

    Args:
        address: of exactly one study.
        patience: timeouts and tries.
        check: called while data come in; raises where the work has to stop.
        modalities: fetch only series of these; all by default.

    Yields:
        the folder, with a folder per series, and all series of the study as the PACS lists them.

    Raises:
        CaseError: the service fails; its code begins with ``PACS_``.
        OSError: the temporary folder cannot be written.
    """
    if len(address.uids) != 1 or address.filters:
        raise ConfigError(f"{address}: one study is fetched at a time; name its StudyInstanceUID")
    with (
        tempfile.TemporaryDirectory(prefix="medmtl-study-") as name,
        Server(address, patience, check) as server,
    ):
        yield Path(name), fetch_study(server, address.uids[0], Path(name), modalities)


def fetch_study(
    server: Server, uid: str, folder: Path, modalities: Collection[str] = ()
) -> tuple[WebSeries, ...]:
    """Fetch a study's series into folders ``000``, ``001``, ... below ``folder``.

    Returns:
        all series of the study.
    """
    series = find_series(server, uid)
    for number, entry in enumerate(series):
        if modalities and entry.modality and entry.modality not in modalities:
            continue
        place = folder / f"{number:03d}"
        server.ask("fetching a series", partial(_fetch, server, uid, entry, place))
    return series


def _fetch(server: Server, study: str, series: WebSeries, folder: Path) -> None:
    """All files of a series, into an emptied folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    url = f"{server.address.service}/studies/{checked_uid(study)}/series/{checked_uid(series.uid)}"
    files = _get(server, url, _ANY, folder)
    if files is None:
        files = _get(server, url, _EXPLICIT, folder)
    if series.instances is not None and len(files or ()) < series.instances:
        raise MultipartError("fewer files than the service says")


def _get(server: Server, url: str, accept: str, folder: Path) -> list[Path] | None:
    """Files of a response; None where the service does not know the syntax that was asked for."""
    with server.session.get(url, headers={"Accept": accept}, stream=True, timeout=server.timeout) as response:
        if response.status_code in (400, 406) and accept == _ANY:
            return None
        response.raise_for_status()
        boundary = boundary_of(response.headers.get("Content-Type", ""))
        return write_parts(_chunks(server, response), boundary, folder)


def _chunks(server: Server, response: Response) -> Iterator[bytes]:
    """The body as it comes in, so that a deadline is noticed even where bytes only drip."""
    from requests.exceptions import ChunkedEncodingError, ContentDecodingError, ReadTimeout
    from urllib3.exceptions import DecodeError, HTTPError, ReadTimeoutError

    try:
        while chunk := response.raw.read1(_CHUNK, decode_content=True):
            server.check()
            yield chunk
    except ReadTimeoutError as error:
        raise ReadTimeout(error) from None
    except DecodeError as error:
        raise ContentDecodingError(error) from None
    except (HTTPError, OSError) as error:
        raise ChunkedEncodingError(error) from None
