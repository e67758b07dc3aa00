"""Contours drawn on single images and kept as text files, as in the Sunnybrook Cardiac Data.

A file ``IM-0001-0048-icontour-manual.txt`` holds one closed outline, a line ``x y`` per point, on the image
with instance number 48 of its series: ``i`` is the inner border of the myocardium (the LV cavity, papillary
muscles included), ``o`` the outer one (the epicardium), ``p1``, ``p2`` the papillary muscles.

The files do not say where their pixels begin. Held against the images, the borders fit best when coordinates
count from the corner of the first pixel, as drawing programs do, so its centre is (0.5, 0.5); half a pixel is
taken off here, and a `Contour` counts from the centre like everything else in medmtl.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medmtl.types import CaseError

Kind = Literal["inner", "outer", "papillary"]

_NAME = re.compile(r"IM-\d+-(\d+)-(i|o|p\d*)-?contour-(manual|auto)\.txt", re.IGNORECASE)
_KIND: Mapping[str, Kind] = {"i": "inner", "o": "outer", "p": "papillary"}
_CORNER = 0.5
_MOST_BYTES = 4 << 20  # an outline has a few hundred points
_FARTHEST = 65536.0  # pixels; no image is larger


@dataclass(frozen=True, eq=False)
class Contour:
    """One closed outline on one image.

    Attributes:
        number: instance number of the image within its series.
        kind: what it is the border of.
        points: ``(N, 2)`` (x, y) = (column, row) in pixels; ``(0, 0)`` is the centre of the first pixel.
        name: its file's name, for messages.
        digest: of the file's bytes; equal for byte-identical files.
    """

    number: int
    kind: Kind
    points: NDArray[np.float64]
    name: str
    digest: str


def is_contour_name(name: str) -> bool:
    """Whether a file name is that of a contour drawn by hand."""
    match = _NAME.fullmatch(name)
    return match is not None and match[3].lower() == "manual"


def read_contour(path: Path) -> Contour:
    """Reads one contour file.

    Raises:
        CaseError: ``UNDECODABLE`` (not the name of a contour file, not numbers) or ``LABEL_VALUES`` (fewer
            than three points, or points beyond any image).
    """
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise CaseError("UNDECODABLE", f"{path.name}: not named like IM-0001-0048-icontour-manual.txt")
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise CaseError("UNDECODABLE", f"{path.name}: cannot be read ({error.strerror})") from error
    if len(data) > _MOST_BYTES:
        raise CaseError("UNDECODABLE", f"{path.name}: is longer than any contour; see what it is")
    points = _points(path.name, data)
    return Contour(
        number=int(match[1]),
        kind=_KIND[match[2][0].lower()],
        points=points - _CORNER,
        name=path.name,
        digest=hashlib.sha256(data).hexdigest(),
    )


def shared_contours(by_patient: Mapping[str, Sequence[Contour]]) -> dict[str, dict[str, list[Contour]]]:
    """Contours that are byte for byte those of another patient.

    Args:
        by_patient: the contours of every patient.

    Returns:
        patient -> other patient -> the first one's contours that the other has too; nothing where there are
        none.
    """
    owners: dict[str, set[str]] = defaultdict(set)
    for patient, contours in by_patient.items():
        for contour in contours:
            owners[contour.digest].add(patient)
    shared: dict[str, dict[str, list[Contour]]] = {}
    for patient, contours in by_patient.items():
        for contour in contours:
            for other in sorted(owners[contour.digest] - {patient}):
                shared.setdefault(patient, {}).setdefault(other, []).append(contour)
    return shared


def _points(name: str, data: bytes) -> NDArray[np.float64]:
    """The outline in the file's own coordinates, ``(N, 2)``; a last point that is the first is dropped."""
    try:
        lines = data.decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        raise CaseError("UNDECODABLE", f"{name}: is not plain text; export the contour again") from error
    points = []
    for number, line in enumerate(lines, start=1):
        cells = line.replace(",", " ").split()
        if not cells:
            continue
        try:
            x, y = (float(cell) for cell in cells)
        except ValueError as error:
            found = f"{name}, line {number}: found {line[:40]!r}"
            raise CaseError("UNDECODABLE", f"{found}; a line is the two numbers x y") from error
        if not (abs(x) <= _FARTHEST and abs(y) <= _FARTHEST):
            raise CaseError(
                "LABEL_VALUES", f"{name}, line {number}: found {line[:40]!r}; that is on no image"
            )
        points.append((x, y))
    if len(points) > 1 and points[0] == points[-1]:
        points.pop()
    if len(points) < 3:
        raise CaseError(
            "LABEL_VALUES", f"{name}: has {len(points)} point(s), and an outline needs three; draw it again"
        )
    return np.array(points, dtype=np.float64)
