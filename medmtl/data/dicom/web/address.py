"""DICOMweb addresses: ``dicomweb+https://host/path?StudyInstanceUID=...``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit

from medmtl.registry import nearest
from medmtl.types import ConfigError

FILTERS = (
    "StudyInstanceUID",
    "AccessionNumber",
    "InstitutionName",
    "ModalitiesInStudy",
    "StudyDate",
    "StudyDescription",
    "StudyTime",
)
"""What studies may be chosen by; nothing of the patient, since an address stands in logs and journals."""

_SCHEME = re.compile(r"dicomweb\+(https?):/{1,2}(?=[^/])")
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")  # zeros in front of a number are wrong, and found in practice


@dataclass(frozen=True)
class Address:
    """A DICOMweb service, and which of its studies are meant.

    Attributes:
        service: URL below which ``/studies`` lies, without a slash at the end.
        uids: StudyInstanceUIDs; all studies where empty.
        filters: QIDO's matching by other attributes, by keyword.
    """

    service: str
    uids: tuple[str, ...] = ()
    filters: Mapping[str, str] = field(default_factory=dict)

    def of_study(self, uid: str) -> Address:
        """The address of one study of this service."""
        return Address(self.service, (checked_uid(uid),))

    @property
    def host(self) -> str:
        """Host and port, for messages."""
        return urlsplit(self.service).netloc

    def __str__(self) -> str:
        chosen = [*(("StudyInstanceUID", uid) for uid in self.uids), *self.filters.items()]
        return f"dicomweb+{self.service}" + (f"?{urlencode(chosen)}" if chosen else "")


def parse_address(text: object) -> Address:
    """Understands a DICOMweb address.

    Args:
        text: ``dicomweb+http(s)://host[:port][/path][?keyword=value&...]``. A path object made of it will do.

    Raises:
        ConfigError: it is none; it holds a password; or it chooses by something of the patient.
    """
    matched = _SCHEME.match(str(text))
    if matched is None:
        raise ConfigError("a DICOMweb address begins with dicomweb+https://HOST or dicomweb+http://HOST")
    parts = urlsplit(f"{matched[1]}://{str(text)[matched.end() :]}")
    if "@" in parts.netloc:
        raise ConfigError(
            f"{parts.netloc.rpartition('@')[2]}: a user or password in an address can be read by all on this "
            "machine; put them into MEDMTL_DICOMWEB_USER and MEDMTL_DICOMWEB_PASSWORD, or into ~/.netrc"
        )
    _check_host(parts.netloc)
    uids: list[str] = []
    filters: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in FILTERS:
            raise ConfigError(_unknown(parts.netloc, name))
        if name == "StudyInstanceUID":
            uids += [checked_uid(uid) for uid in re.split(r"[,\\]", value)]
        elif name in filters or not value:
            raise ConfigError(f"{parts.netloc}: {name} must stand once in the address, with a value")
        else:
            filters[name] = value
    service = f"{matched[1]}://{parts.netloc}{parts.path.rstrip('/')}"
    return Address(service, tuple(dict.fromkeys(uids)), filters)


def checked_uid(uid: str) -> str:
    """The UID, if it is one and so may stand in a URL.

    Raises:
        ConfigError: it is none.
    """
    uid = uid.strip()
    if len(uid) > 64 or _UID.fullmatch(uid) is None:
        raise ConfigError(
            f"{uid[:70]!r} is no StudyInstanceUID: numbers with dots between, at most 64 characters"
        )
    return uid


def _check_host(host: str) -> None:
    name, _, port = host.rpartition(":") if re.search(r":\d*$", host) else (host, "", "0")
    if (
        not re.fullmatch(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]", name)
        or not port.isdigit()
        or int(port) > 65535
    ):
        raise ConfigError(f"{host[:80]!r} is no host, or host:port, of a DICOMweb address")


def _unknown(host: str, name: str) -> str:
    if name.startswith("Patient"):
        return (
            f"{host}: studies cannot be chosen by {name}, since addresses stand in logs and journals; choose "
            f"by StudyInstanceUID, or by {', '.join(FILTERS[1:])}"
        )
    known = f"known: {', '.join(FILTERS)}{nearest(name, list(FILTERS))}"
    return f"{host}: studies cannot be chosen by {name!r}; {known}"
