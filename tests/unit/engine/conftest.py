"""One tiny dataset, and what training makes ready of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from medmtl.data.dataset import Dataset, open_dataset
from tests.helpers.study import write_study


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """On volumes this small two threads are slower than one, many times so on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Nine labelled cases of two frames; read only."""
    return open_dataset(write_study(tmp_path_factory.mktemp("study") / "dataset"))
