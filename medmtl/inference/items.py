"""One unit of work: what becomes one row of ``predictions.csv`` and one folder."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Item:
    """A case to predict, as plain data: cheap to send to another process or another machine.

    Attributes:
        key: identifies the work for ever, such as ``study:<StudyInstanceUID>``; the same key twice in the
            input is done once.
        case_id: name of the row and of the folder; safe as a file name.
        kind: where it comes from.
        paths: absolute; a NIfTI file per channel, or the DICOM files, folders or archives that hold the
            chosen series, or addresses.
        study_uid: DICOM's StudyInstanceUID, or its keyed hash.
        series_uid: SeriesInstanceUID of the chosen series, or its keyed hash.
        fingerprint: of sizes and times of the files; work whose fingerprint changed is done again.
        chosen: name of the chosen volume (DICOM).
        left: sentences: which series were left and why.
        refused: (code, message) where there is nothing usable, so no work to do.
        values: covariates of a case of a dataset; ``frame_ed`` and ``frame_es`` likewise.
        watched: files and folders whose fingerprint it is; ``paths`` where empty. A folder of one study
            belongs here, so that a study that still grows is noticed.
        uids: StudyInstanceUID and the SeriesInstanceUID of each channel as the files have them, to find them
            again; never written anywhere.
    """

    key: str
    case_id: str
    kind: Literal["nifti", "dicom", "web"]
    paths: tuple[str, ...]
    study_uid: str = ""
    series_uid: str = ""
    fingerprint: str = ""
    chosen: str = ""
    left: tuple[str, ...] = ()
    refused: tuple[str, str] | None = None
    values: Mapping[str, float | str | None] = field(default_factory=dict)
    watched: tuple[str, ...] = ()
    uids: tuple[str, ...] = field(default=(), repr=False)

    def key_digest(self) -> str:
        """A short name of the key, for where two studies would have the same name."""
        return hashlib.sha1(self.key.encode(), usedforsecurity=False).hexdigest()

    def fingerprint_now(self) -> str:
        """What the fingerprint would be if it were taken now."""
        return fingerprint_of(self.watched or self.paths)


def fingerprint_of(paths: Iterable[str]) -> str:
    """A digest of the sizes and times of files, and of every file below a folder, whatever their order.

    What does not exist counts as such, so that a file that vanishes changes the fingerprint as well.
    """
    found: list[str] = []
    for path in sorted(set(paths)):
        if Path(path).is_dir():
            found += [_stamp(str(inner)) for inner in sorted(Path(path).rglob("*")) if not inner.is_dir()]
        else:
            found.append(_stamp(path))
    return hashlib.sha1("\n".join(found).encode(), usedforsecurity=False).hexdigest()


def _stamp(path: str) -> str:
    try:
        seen = Path(path).stat()
    except OSError:
        return f"{path}\0gone"
    return f"{path}\0{seen.st_size}\0{seen.st_mtime_ns}"


def pack(item: Item) -> bytes:
    """An item in a few bytes: the paths of ten thousand studies that wait are mostly the same letters."""
    return zlib.compress(json.dumps(asdict(item)).encode(), level=1)


def unpack(packed: bytes) -> Item:
    """What `pack` packed."""
    found = json.loads(zlib.decompress(packed))
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in found.items()}
    return Item(**fields)
