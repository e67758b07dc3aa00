"""DICOMweb addresses -> items: a study each, fetched only when its turn comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from medmtl.data.dicom.web import Patience, Server, find_series, find_studies, fingerprint_of, parse_address
from medmtl.data.dicom.web.address import Address
from medmtl.inference.items import Item
from medmtl.types import CaseError, ConfigError


def find_web(
    address: object, name: Callable[[str], str], *, patience: Patience | None = None
) -> Iterator[Item]:
    """Ask a PACS for the studies that an address means.

    Args:
        address: ``dicomweb+https://host/path?StudyInstanceUID=...``, or other filters, or none for all.
        name: StudyInstanceUID -> case_id.
        patience: timeouts and tries.

    Yields:
        items of kind ``web``; `paths` holds the address of the one study, and `series_uid` is still open. A
        study that the PACS does not have is a refused item. Results that are sent back to a study do not
        change its fingerprint.

    Raises:
        ConfigError: it is no address, the PACS cannot be asked, or it has no such study.
    """
    parsed = parse_address(address)
    found = 0
    with Server(parsed, patience) as server:
        try:
            for uid in find_studies(server):
                found += 1
                yield _item(server, parsed.of_study(uid), uid, name(uid))
        except CaseError as error:
            raise ConfigError(f"{error} [{error.code}]") from None
    if not found:
        raise ConfigError(f"{parsed}: the PACS has no such study; check the filters, and who may see it")


def _item(server: Server, address: Address, uid: str, case_id: str) -> Item:
    item = Item(f"study:{uid}", case_id, "web", (str(address),), study_uid=uid)
    try:
        fingerprint = fingerprint_of(find_series(server, uid))
    except CaseError as error:
        if error.code != "PACS_NOT_FOUND":
            raise
        return Item(item.key, case_id, "web", item.paths, study_uid=uid, refused=(error.code, str(error)))
    return Item(item.key, case_id, "web", item.paths, study_uid=uid, fingerprint=fingerprint)
