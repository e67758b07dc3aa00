"""From sections to one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

    from medmtl.report.blocks import Section
    from medmtl.report.header import Header


def environment() -> Environment:
    """Where the report's templates are; every text is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("medmtl.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(header: Header, sections: Sequence[Section]) -> str:
    """The page; every text is escaped, figures are the only markup that passes."""
    return environment().get_template("template.html").render(header=header, sections=sections)
