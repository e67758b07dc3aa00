"""Finds the public patient data that these tests read; they skip, with a reason, where it is absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.realdata)


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The folder that ``MEDMTL_REALDATA`` names, ``../shared/data`` beside the repository by default."""
    root = Path(os.environ.get("MEDMTL_REALDATA", REPOSITORY.parent / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no real data in {root}; set MEDMTL_REALDATA to the folder that holds it")
    return root
