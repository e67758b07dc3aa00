"""Every flag has a section on the page about quality flags, and none of them is an ingestion code."""

from __future__ import annotations

import re
from pathlib import Path

from medmtl.inference.measure import FLAGS

PAGE = Path(__file__).parents[4] / "docs" / "explanation" / "quality-flags.md"


def test_the_page_explains_every_flag_and_no_other() -> None:
    assert set(re.findall(r"^### `(\w+)`$", PAGE.read_text(), re.MULTILINE)) == set(FLAGS)


def test_a_flag_is_not_called_like_a_finding() -> None:
    pages = {path.stem for path in (PAGE.parents[1] / "reference" / "findings").glob("*.md")}
    assert pages
    assert not pages & set(FLAGS)
