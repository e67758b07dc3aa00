"""A real PACS for tests: Orthanc with its DICOMweb plugin, on a free port, with a folder of its own."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

PROGRAM = shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
PLUGINS = sorted(Path("/usr").glob("share/orthanc/plugins/libOrthancDicomWeb.so"))
MISSING = "" if PROGRAM and PLUGINS else "needs Debian's packages orthanc and orthanc-dicomweb: make system"
USER, PASSWORD = "reader", "not-for-logs-7f3a"


@dataclass(frozen=True)
class Orthanc:
    """A running PACS; `address` is its DICOMweb address, `url` its own interface."""

    url: str

    @property
    def address(self) -> str:
        return f"dicomweb+{self.url}/dicom-web"

    def modalities(self) -> list[str]:
        """Of all instances that are stored."""
        instances = requests.get(f"{self.url}/instances?expand", auth=(USER, PASSWORD), timeout=10).json()
        series = {entry["ParentSeries"] for entry in instances}
        tags = {
            name: requests.get(f"{self.url}/series/{name}", auth=(USER, PASSWORD), timeout=10).json()
            for name in series
        }
        return sorted(tags[entry["ParentSeries"]]["MainDicomTags"]["Modality"] for entry in instances)


@contextmanager
def running(folder: Path) -> Iterator[Orthanc]:
    """Orthanc that asks for a password, stopped when the block ends."""
    assert PROGRAM is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir(parents=True)
    settings = {
        "StorageDirectory": str(folder / "store"),
        "IndexDirectory": str(folder / "store"),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "Plugins": [str(PLUGINS[0])],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen([PROGRAM, str(folder / "orthanc.json")], stdout=log, stderr=log)
        try:
            found = Orthanc(f"http://127.0.0.1:{port}")
            _wait(found, process, folder / "log.txt")
            yield found
        finally:
            process.terminate()
            process.wait(20)


def _wait(pacs: Orthanc, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < until:
        try:
            requests.get(f"{pacs.url}/system", auth=(USER, PASSWORD), timeout=5).raise_for_status()
        except requests.ConnectionError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"Orthanc does not answer: {log.read_text(errors='replace')[-2000:]}")
