"""From sections to one HTML file, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medmtl.types import OutputError

if TYPE_CHECKING:
    from medmtl.report.blocks import Section
    from medmtl.report.header import Header


def render(header: Header, sections: Sequence[Section]) -> str:
    """The page; every text is escaped, figures are the only markup that passes."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("medmtl.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("template.html").render(header=header, sections=sections)


def write_whole(path: Path, text: str) -> None:
    """Write `text` beside `path` and move it there, so that nobody ever sees half a file.

    Raises:
        OutputError: the folder cannot be written to.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise OutputError(
            f"{path.parent} cannot be written to ({error.strerror}); free space or change its permissions"
        ) from error
    draft = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        draft.chmod(0o644)
        draft.replace(path)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror}); free space or change its permissions"
        ) from error
    finally:
        draft.unlink(missing_ok=True)
