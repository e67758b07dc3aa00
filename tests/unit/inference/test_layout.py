"""The layout that a CPU computes fastest changes how a network is computed, not what."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from medmtl.data.dataset import Dataset
from medmtl.data.load import prepare_case
from medmtl.inference import Model, layout, predict_prepared
from medmtl.inference import context as in_context
from medmtl.inference.layout import laid_out

CPU = torch.device("cpu")


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that has the instructions; computed is in float32, so that rounding hides nothing."""
    monkeypatch.setattr(layout, "fast_dtype", lambda _: torch.bfloat16)
    monkeypatch.setattr(in_context, "fast_dtype", lambda _: None)


@pytest.mark.usefixtures("fast")
def test_a_network_laid_out_says_the_same(model: Model, study: Dataset) -> None:
    before = model.context(CPU)
    after = laid_out(before)
    case = prepare_case(study.cases[7], study.columns, model.preparation, wanted=())
    own, other = (predict_prepared(context, case, list(model.tasks)) for context in (before, after))
    for name, volume in own.dense.items():
        if volume.dtype.kind == "f":
            assert abs(volume - other.dense[name]).max() < 1e-3 * (1 + abs(volume).max())
        else:
            assert (volume != other.dense[name]).mean() < 1e-3
    for name, values in own.values.items():
        for key, value in values.items():
            assert other.values[name][key] == (
                pytest.approx(value, rel=1e-3, abs=1e-4) if isinstance(value, float) else value
            )


@pytest.mark.usefixtures("fast")
def test_the_models_own_network_stays_as_it_is(model: Model) -> None:
    kinds = [type(module) for module in model.network.modules()]
    strides = {name: value.stride() for name, value in model.network.state_dict().items()}
    found = laid_out(model.context(CPU)).network
    assert [type(module) for module in model.network.modules()] == kinds
    assert {name: value.stride() for name, value in model.network.state_dict().items()} == strides
    assert nn.InstanceNorm3d in kinds
    assert not any(isinstance(module, nn.InstanceNorm3d) for module in found.modules())
    for name, value in model.network.state_dict().items():
        assert torch.equal(found.state_dict()[name], value)


@pytest.mark.usefixtures("fast")
def test_every_member_of_an_ensemble_is_laid_out(model: Model) -> None:
    context = model.context(CPU)
    found = laid_out(replace(context, others=(context,)))
    assert len(found.members) == 2
    for member in found.members:
        assert not any(isinstance(module, nn.InstanceNorm3d) for module in member.network.modules())


def test_a_cpu_without_the_instructions_computes_as_ever(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "fast_dtype", lambda _: None)
    context = model.context(CPU)
    assert laid_out(context) is context
