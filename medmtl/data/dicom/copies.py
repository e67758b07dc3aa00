"""Files that bear one SOPInstanceUID: copies, contradictions, and the work of careless anonymizers."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from medmtl.data.dicom.model import Instance
from medmtl.data.dicom.syntaxes import EXPLICIT, IMPLICIT
from medmtl.data.dicom.tally import Tally
from medmtl.types import Finding

_PLACE = (
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "ImageType",
    "TriggerTime",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "FrameReferenceTime",
    "AcquisitionTime",
    "AcquisitionNumber",
    "InstanceNumber",
    "EchoTime",
    "NumberOfFrames",
    "Rows",
    "Columns",
)
"""What tells where and when an image was taken: files that agree in it and not in their pixels contradict."""

_STEP = 1 << 20


def without_copies(instances: list[Instance]) -> tuple[list[Instance], list[Finding]]:
    """Each file once.

    Of files with one SOPInstanceUID at one place, those with equal pixels are one image, and one is kept.
    Those with different pixels are all kept, and said to contradict: what is made of the series then sees the
    position twice and refuses to choose. Files at different places are kept, too: there the UID is wrong.
    Pixels that are compressed in one file and not in the other are not compared: the plain ones are kept.

    Args:
        instances: in the order in which they are to be preferred.

    Returns:
        The files that are kept, in the same order, and what is to be said.
    """
    groups: dict[str, list[Instance]] = {}
    for instance in instances:
        uid = instance.header.get("SOPInstanceUID")
        if uid is not None:
            groups.setdefault(uid, []).append(instance)
    if len(groups) == len(instances):
        return instances, []
    copies: list[Instance] = []
    encoded: list[Instance] = []
    shared: list[Instance] = []
    findings: list[Finding] = []
    for group in groups.values():
        if len(group) > 1:
            places = _by_place(group)
            if len(places) > 1:
                shared += group
            for place in places:
                repeated, otherwise, contradicting = _compared(place)
                copies += repeated
                encoded += otherwise
                if contradicting:
                    findings.append(_contradiction([place[0], *contradicting]))
    dropped = {id(copy) for copy in (*copies, *encoded)}
    findings += _said(copies, "left out as copies of others with the same SOPInstanceUID and pixels")
    findings += _said(encoded, "left out: others have the same SOPInstanceUID in another encoding")
    findings += _said(shared, "of different places but share SOPInstanceUIDs; their places were trusted")
    return [instance for instance in instances if id(instance) not in dropped], findings


def _by_place(group: Iterable[Instance]) -> list[list[Instance]]:
    places: dict[tuple[object, ...], list[Instance]] = {}
    for instance in group:
        key = tuple(instance.header.get(keyword) for keyword in _PLACE)
        places.setdefault(key, []).append(instance)
    return list(places.values())


def _compared(place: list[Instance]) -> tuple[list[Instance], list[Instance], list[Instance]]:
    """Of files at one place: those that repeat the first, are encoded otherwise, or contradict it."""
    whole = sorted((i for i in place if i.pixels is not None), key=lambda i: _encoding(i) != "")
    if not whole:
        return place[1:], [], []
    first, *others = whole
    copies = [instance for instance in place if instance.pixels is None]  # broken, and a whole one is there
    otherwise = [other for other in others if _encoding(other) != _encoding(first)]
    same = [other for other in others if _encoding(other) == _encoding(first)]
    known = {_digest(first)} if same else set()
    contradicting: list[Instance] = []
    for other in same:
        digest = _digest(other)
        (copies if digest in known else contradicting).append(other)
        known.add(digest)
    return copies, otherwise, contradicting


def _encoding(instance: Instance) -> str:
    """Transfer syntax of the pixels; blank where they are plain little endian."""
    return "" if instance.transfer_syntax in (IMPLICIT, EXPLICIT) else instance.transfer_syntax


def _digest(instance: Instance) -> bytes:
    """Digest of an image's pixels as they are stored."""
    source, pixels = instance.source, instance.pixels
    assert pixels is not None
    digest = blake2b(digest_size=16)
    position = pixels.offset
    end = source.size() if pixels.length is None else position + pixels.length
    while position < end and (block := source.read(position, min(_STEP, end - position))):
        digest.update(block)
        position += len(block)
    return digest.digest()


def _contradiction(group: list[Instance]) -> Finding:
    tally = Tally(instance.source.label for instance in group)
    message = (
        f"{tally.examples()} bear one SOPInstanceUID and say that they are one image, but their pixels "
        "differ; remove the wrong one"
    )
    return Finding("DUPLICATE_POSITION", "error", message, tally.first)


def _said(instances: list[Instance], what: str) -> list[Finding]:
    if not instances:
        return []
    tally = Tally(instance.source.label for instance in instances)
    message = f"{tally.of('file is', 'files are')} {what}: {tally.examples()}"
    return [Finding("DUPLICATE_POSITION", "info", message, tally.first)]
