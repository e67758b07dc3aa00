"""What is asked of a prediction, as plain data that travels to workers."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medmtl.registry import nearest
from medmtl.types import ConfigError

FORMATS = ("nifti", "seg", "labelmap", "sr", "csv")
"""What `--write` may ask for; ``seg``, ``labelmap`` and ``sr`` need a DICOM source."""
FEWEST_THREADS = 3
"""One study is read, one computed, one written."""
USUAL = ("nifti", "seg", "sr", "csv")


@dataclass(frozen=True)
class Options:
    """What one run does with every study.

    Attributes:
        tasks: names of the tasks wanted, in order; all of the model's where empty.
        write: of `FORMATS`.
        preview: keep small pictures for the report.
        mirror: average dense tasks over in-plane mirror images.
        send: address of a PACS that results are sent to; ``source`` is where a study came from.
        select: rule that overrides the model's choice of series.
        key: secret that turns identifiers into keyed hashes; None keeps UIDs.
        timeout: seconds that one study may take, waiting for the device not counted; None is no limit.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: studies that one worker has at hand, so that reading, computing and writing overlap; 0 is by
            the number of cores.
    """

    tasks: tuple[str, ...] = ()
    write: tuple[str, ...] = USUAL
    preview: bool = True
    mirror: bool = False
    send: str = ""
    select: str = ""
    key: bytes | None = None
    timeout: float | None = None
    device: str = "auto"
    threads: int = 0

    def __post_init__(self) -> None:
        for name in self.write:
            if name not in FORMATS:
                raise ConfigError(
                    f"--write: {name!r} is not known; use {', '.join(FORMATS)}{nearest(name, list(FORMATS))}"
                )
        if self.timeout is not None and self.timeout <= 0:
            raise ConfigError(f"--timeout: {self.timeout:g} is no time; give seconds per study")
        if self.threads < 0:
            raise ConfigError(f"threads: {self.threads} is too few; a worker needs at least one")

    @property
    def at_hand(self) -> int:
        """Studies that one worker has at hand."""
        return self.threads or FEWEST_THREADS

    def identity(self) -> dict[str, Any]:
        """What results depend on: all but where and how fast they are made. The key shows as a hash."""
        known = hmac.new(self.key, b"medmtl", hashlib.sha256).hexdigest()[:16] if self.key else ""
        return {
            "tasks": list(self.tasks),
            "write": sorted(self.write),
            "mirror": self.mirror,
            "send": self.send,
            "select": self.select,
            "pseudonymize": known,
        }


def read_key(path: Path) -> bytes:
    """The secret in a file, for `Options.key`.

    Raises:
        ConfigError: it cannot be read, or is too short to be a secret.
    """
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"{path}: the key cannot be read ({error.strerror})") from error
    if len(key) < 16:
        raise ConfigError(
            f"{path}: holds {len(key)} bytes, a key needs at least 16; make one with `openssl rand -hex 32`"
        )
    return key


def split_names(text: str) -> tuple[str, ...]:
    """``"a, b"`` -> ``("a", "b")``."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
