"""One tiny dataset, and what training makes ready of it."""

from __future__ import annotations

import pytest

from medmtl.data.dataset import Dataset, open_dataset
from tests.helpers.study import write_study


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Nine labelled cases of two frames; read only."""
    return open_dataset(write_study(tmp_path_factory.mktemp("study") / "dataset"))
