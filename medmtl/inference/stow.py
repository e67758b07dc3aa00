"""Written DICOM objects back to a PACS."""

from __future__ import annotations

from pathlib import Path

from medmtl.data.dicom.web import Patience, Server, parse_address, store_files
from medmtl.data.dicom.web.server import Check


def send_case(
    folder: Path, address: object, *, patience: Patience | None = None, check: Check | None = None
) -> int:
    """Store the DICOM objects of one case's folder on a PACS, segmentations before measurements.

    Sending twice does no harm: objects keep their UIDs.

    Args:
        folder: ``OUT/<case_id>``.
        address: DICOMweb address of the service; which study it names does not matter.
        patience: timeouts and tries.
        check: called while waiting; raises where the work has to stop.

    Returns:
        how many objects were sent.

    Raises:
        CaseError: the PACS cannot be reached or did not take an object; its code begins with ``PACS_``.
        ConfigError: it is no address.
    """
    files = sorted(folder.glob("*.dcm"), key=lambda path: (path.name == "measurements.dcm", path.name))
    if files:
        with Server(parse_address(address), patience, check) as server:
            store_files(server, files)
    return len(files)
