"""The elements of one file, or of one item of a sequence, decoded when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from medmtl.data.dicom.decode import UNDECODABLE, Context, decode
from medmtl.data.dicom.elements import ELEMENTS, MOSAIC_ONLY
from medmtl.data.dicom.walk import Found, Items, Odd, walk_items
from medmtl.data.dicom.wanted import PATIENT, StrangeError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

PLAIN = Context(implicit=False)
NOTHING: Mapping[str, Any] = {}


class Known(NamedTuple):
    """A value that needs no decoding any more."""

    value: Any


Stored = bytes | Odd | Items | Known
"""A value as a header keeps it."""


class Header:
    """What medmtl reads of a DICOM file: the elements of ``elements.py``, by keyword.

    Numbers are ``int`` or ``float`` and finite; text is stripped; an element with a fixed number of values
    above one is a tuple of that length, one that may have any number is always a tuple; a sequence is a tuple
    of headers, a binary value ``bytes``. An absent, empty or undecodable element is None; ``undecodable``
    names the last kind.

    ``Patient.Key`` is not an element: it is a digest of PatientID (of name and birth date where that is
    blank), equal for the files of one patient, None where nothing is known.

    Args:
        own: stored values, by keyword.
        context: what decoding them takes.
        common: further ones, shared with other headers; ``own`` wins.
    """

    __slots__ = ("_common", "_context", "_own")

    def __init__(
        self, own: dict[str, Stored], context: Context, common: Mapping[str, Stored] = NOTHING
    ) -> None:
        self._own = own
        self._common = common
        self._context = context

    @classmethod
    def of_file(cls, found: Found, implicit: bool) -> Header:
        """Header of a file that was walked.

        Args:
            found: stored values.
            implicit: representations are not in the file.
        """
        stored: dict[str, Stored] = {**found}
        names = [plain_bytes(stored.pop(name, None)) for name in PATIENT.values()]
        if (key := patient_key(*names)) is not None:
            stored["Patient.Key"] = Known(key)
        tiled = b"MOSAIC" in plain_bytes(found.get("ImageType"))
        if not tiled and "Siemens.NumberOfImagesInMosaic" not in found:
            for name in MOSAIC_ONLY:
                stored.pop(name, None)
        signed = plain_bytes(found.get("PixelRepresentation")) == b"\1\0"
        return cls(stored, Context(implicit, plain_bytes(found.get("SpecificCharacterSet")), signed))

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Header:
        """Header of values as ``get`` is to return them; an item of a sequence may be such a mapping, too.

        Raises:
            KeyError: medmtl does not read one of them.
        """
        stored = {}
        for keyword, value in values.items():
            if keyword not in ELEMENTS:
                raise _unknown(keyword)
            if ELEMENTS[keyword].vr == "SQ":
                value = tuple(v if isinstance(v, Header) else cls.from_values(v) for v in value)
            elif isinstance(value, list):
                value = tuple(value)
            stored[keyword] = value
        return cls.of_values(stored)

    @classmethod
    def from_pydicom(cls, dataset: Dataset) -> Header:
        """Header of a data set that pydicom read or that was made in memory."""
        from medmtl.data.dicom.by_pydicom import values_of

        return cls.of_values(values_of(dataset))

    @classmethod
    def of_values(cls, values: Mapping[str, Any]) -> Header:
        """Header of values that are already what ``get`` returns, or UNDECODABLE."""
        return cls({keyword: Known(value) for keyword, value in values.items()}, PLAIN)

    def get(self, keyword: str) -> Any:
        """Value of an element, or None.

        Raises:
            KeyError: a slip of the pen, or a row that ``elements.py`` lacks.
        """
        stored = self._own.get(keyword)
        if stored is None:
            stored = self._common.get(keyword)
        if stored.__class__ is bytes:
            value = decode(keyword, "", stored, self._context)
        elif stored is not None:
            value = self._unusual(keyword, stored)
        elif keyword in ELEMENTS:
            return None
        else:
            raise _unknown(keyword)
        return None if value is UNDECODABLE else value

    def has(self, keyword: str) -> bool:
        """Whether the element is in the file, even if empty or undecodable."""
        return keyword in self._own or keyword in self._common

    def raw(self, keyword: str) -> bytes | None:
        """Bytes of the element's value as stored, if it was read from such; None otherwise."""
        stored = self._stored(keyword)
        if isinstance(stored, Odd | Items):
            return stored.raw
        return stored if isinstance(stored, bytes) else None

    def undecodable(self, keywords: Iterable[str] | None = None) -> tuple[str, ...]:
        """Those of the keywords (None: of all) that are in the file with a value that makes no sense."""
        asked = {**self._common, **self._own} if keywords is None else keywords
        return tuple(keyword for keyword in asked if self._value(keyword) is UNDECODABLE)

    def as_dict(self) -> dict[str, Any]:
        """Every element that has a value, sequences as tuples of such dictionaries."""
        values = {keyword: self.get(keyword) for keyword in {**self._common, **self._own}}
        return {
            keyword: tuple(item.as_dict() for item in value) if ELEMENTS[keyword].vr == "SQ" else value
            for keyword, value in values.items()
            if value is not None
        }

    def known(self) -> dict[str, Any]:
        """As ``of_values`` takes them: every element, UNDECODABLE ones too."""
        return {keyword: self._value(keyword) for keyword in {**self._common, **self._own}}

    @property
    def layers(self) -> tuple[dict[str, Stored], Mapping[str, Stored], Context]:
        """Stored elements of its own, those that it shares, and what decoding them takes."""
        return self._own, self._common, self._context

    def upon(self, other: Header) -> Header:
        """The same header, sharing with another all values that are equal: a series repeats most of them."""
        common = other._own
        if self._context != other._context or not common.keys() <= self._own.keys():
            return self
        own = {keyword: value for keyword, value in self._own.items() if common.get(keyword) != value}
        return Header(own, other._context, common)

    def _stored(self, keyword: str) -> Stored | None:
        stored = self._own.get(keyword)
        return self._common.get(keyword) if stored is None else stored

    def _value(self, keyword: str) -> Any:
        stored = self._stored(keyword)
        if isinstance(stored, bytes):
            return decode(keyword, "", stored, self._context)
        return None if stored is None else self._unusual(keyword, stored)

    def _unusual(self, keyword: str, stored: Stored) -> Any:
        if isinstance(stored, Known):
            return stored.value
        if isinstance(stored, Odd):
            return decode(keyword, stored.vr, stored.raw, self._context)
        assert isinstance(stored, Items)
        value = self._items(stored)
        self._own[keyword] = Known(value)  # two threads at once do the same work twice, and no harm
        return value

    def _items(self, stored: Items) -> Any:
        items: list[tuple[Found, bool]] = []
        try:
            walk_items(stored.raw, 0, len(stored.raw), stored.implicit, items)
        except StrangeError:
            from medmtl.data.dicom.by_pydicom import items_of

            headers = items_of(stored.raw, stored.implicit, self._context)
            return UNDECODABLE if headers is None else headers
        return tuple(Header({**found}, self._context_of(found, implicit)) for found, implicit in items)

    def _context_of(self, item: Found, implicit: bool) -> Context:
        charset = plain_bytes(item.get("SpecificCharacterSet")) or self._context.charset
        return Context(implicit, charset, self._context.signed)


def undecodable_in(headers: Iterable[Header]) -> Iterator[tuple[int, str]]:
    """Number of the header and keyword of every element that makes no sense, sequences aside.

    What headers share is looked at once.
    """
    shared: dict[int, tuple[str, ...]] = {}
    for number, header in enumerate(headers):
        own, common = header._own, header._common
        if id(common) not in shared:
            shared[id(common)] = tuple(_wrong(common, header._context))
        yield from ((number, keyword) for keyword in _wrong(own, header._context))
        yield from ((number, keyword) for keyword in shared[id(common)] if keyword not in own)


def _wrong(stored: Mapping[str, Stored], context: Context) -> list[str]:
    wrong = []
    for keyword, value in stored.items():
        if value.__class__ is bytes:
            decoded = decode(keyword, "", value, context)
        elif isinstance(value, Odd):
            decoded = decode(keyword, value.vr, value.raw, context)
        else:
            decoded = value.value if isinstance(value, Known) else None
        if decoded is UNDECODABLE:
            wrong.append(keyword)
    return wrong


@lru_cache(maxsize=1024)
def patient_key(patient_id: bytes, name: bytes, birth_date: bytes) -> str | None:
    """Digest of a patient, or None where nothing is known of them.

    It hides who the patient is from a reader of tables, not from one who knows identifiers and tries them.
    """
    blank = b" \0"
    person = patient_id.strip(blank) or b"\\".join((name.strip(blank), birth_date.strip(blank))).strip(b"\\")
    return blake2b(person, digest_size=8, person=b"medmtl").hexdigest() if person else None


def patient_key_of_id(patient_id: str) -> str | None:
    """The ``Patient.Key`` of files with this PatientID."""
    return patient_key(patient_id.encode(), b"", b"")


def plain_bytes(stored: Any) -> bytes:
    """Bytes of a stored value, whatever its representation; blank where there is none."""
    if isinstance(stored, Odd):
        return stored.raw
    return stored if isinstance(stored, bytes) else b""


def _unknown(keyword: str) -> KeyError:
    return KeyError(f"{keyword!r} is not among the elements that are read (medmtl/data/dicom/elements.py)")
