from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medmtl.data.normalize import Normalization, mean_and_sd, of_channel, parse_normalization
from medmtl.data.prepare import Preparation
from medmtl.types import ConfigError

CT = {"type": "window", "low": -990.0, "high": 300.0, "mean": 40.0, "sd": 120.0}


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ("z-score", r"normalization: must be auto, zscore, .* found 'z-score'; did you mean 'zscore'"),
        ([], "normalization: is empty; give one entry per channel, or auto"),
        (["zscore", "minmax"], "normalization.1: must be auto, zscore"),
        ([{"type": "zscore", "low": 1}], "normalization.0.low: zscore has no such number"),
        ([{**CT, "hi": 3}], "normalization.0.hi: window has no such number; did you mean 'high'"),
        ([{**CT, "sd": 0}], "normalization.0.sd: must be above 0"),
        ([{**CT, "low": 400}], r"normalization.0: low \(400\) must lie below high \(300\)"),
        ([{**CT, "mean": "40"}], "normalization.0.mean: must be a finite number, found '40'"),
        ([{**CT, "mean": True}], "normalization.0.mean: must be a finite number"),
        ([{**CT, "mean": float("nan")}], "normalization.0.mean: must be a finite number"),
        ([{"type": "window", "low": 0, "high": 1}], "normalization.0.mean: is missing; give all of"),
        ([7], "normalization.0: must be auto"),
    ],
)
def test_what_is_no_normalization_is_named_with_its_place(found: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse_normalization(found)


def test_auto_is_left_to_the_data_and_one_name_stands_for_all_channels() -> None:
    assert parse_normalization("auto") is None
    assert parse_normalization(None) is None
    single = parse_normalization("zscore")
    assert single == (Normalization("zscore"),)
    assert of_channel(single, 3).type == "zscore"
    two = parse_normalization([CT, "suv"])
    assert two is not None
    assert [of_channel(two, i).type for i in range(2)] == ["window", "suv"]
    assert [entry.is_complete for entry in two] == [True, True]
    assert not Normalization("window").is_complete


def test_a_window_means_the_same_in_every_case() -> None:
    change = Normalization("window", -990.0, 300.0, 40.0, 120.0)
    volume = torch.tensor([-2000.0, -990.0, 40.0, 160.0, 3000.0])
    assert change(volume).tolist() == pytest.approx([-8.58333, -8.58333, 0.0, 1.0, 2.166667])
    brighter = torch.cat([volume, torch.full((100,), 250.0)])
    assert torch.equal(change(brighter)[:5], change(volume))


def test_suv_keeps_its_scale_and_negative_values_are_none() -> None:
    found = Normalization("suv")(torch.tensor([-1.0, 0.0, 2.5, 5.0, 90.0]))
    assert found.tolist() == [0.0, 0.0, 0.5, 1.0, 4.0]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31 - 1), st.floats(-1e3, 1e3), st.floats(1.0, 1e3))
def test_a_standardized_channel_has_mean_0_and_deviation_1(seed: int, mean: float, sd: float) -> None:
    volume = torch.randn((2, 20, 20, 5), generator=torch.Generator().manual_seed(seed)) * sd + mean
    found = Normalization("zscore")(volume)
    assert float(found.mean()) == pytest.approx(0, abs=1e-3)
    assert float(found.std()) == pytest.approx(1, abs=1e-3)


def test_a_case_is_standardized_alike_with_any_number_of_threads() -> None:
    volume = torch.randn((1, 90, 90, 40), generator=torch.Generator().manual_seed(0)) * 50 + 300
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(Normalization("zscore")(volume))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_mean_and_deviation_are_those_of_numpy_over_many_parts() -> None:
    values = np.random.default_rng(0).normal(1000, 3, (7, 600_000)).astype(np.float32)
    mean, sd = mean_and_sd(values)
    assert mean == pytest.approx(values.mean(dtype=np.float64), rel=1e-12)
    assert sd == pytest.approx(values.std(dtype=np.float64), rel=1e-9)


def test_the_constants_travel_through_the_model_file() -> None:
    window = parse_normalization([CT, "zscore"])
    assert window is not None
    preparation = Preparation((1.0, 1.0, None), (16, 16, 8), window)
    plain = preparation.as_plain()
    assert plain["normalization"] == [CT, "zscore"]
    assert Preparation.from_plain(plain) == preparation
    older = Preparation.from_plain(
        {"spacing_mm": [1.0, 1.0, None], "patch": [16, 16, 8], "normalization": "none"}
    )
    assert older.normalizations == (Normalization("none"),)
