"""A tiny dataset and a model of it, trained for a moment."""

from __future__ import annotations

import copy

import pytest
import torch

from medmtl.data.dataset import Dataset, open_dataset
from medmtl.inference import Model
from tests.helpers.study import make_job, make_ready, sections, write_study


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Nine labelled cases of two frames; read only."""
    return open_dataset(write_study(tmp_path_factory.mktemp("study") / "dataset"))


@pytest.fixture(scope="session")
def _model(study: Dataset) -> Model:
    tasks = sections() | {"blind": {**sections()["disease"], "masks": []}}
    model = make_ready(make_job(study, study.root / "run", tasks)).model
    generator = torch.Generator().manual_seed(5)
    for parameter in model.network.parameters():  # so that every head says something of its own
        parameter.data.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    model.network.eval()
    return model


@pytest.fixture
def model(_model: Model) -> Model:
    """Random weights, a task of every kind, and ``blind``, a classification that reads no masks."""
    return copy.deepcopy(_model)
