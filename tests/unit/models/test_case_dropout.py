"""Dropout by case: a case loses the same features wherever it lies."""

from __future__ import annotations

import torch

from medmtl.models.case_dropout import CaseDropout


def test_a_case_loses_the_same_features_whatever_lies_beside_it() -> None:
    dropout = CaseDropout(0.5)
    values = torch.ones(3, 64)
    together = dropout(values, [5, 6, 7])
    torch.manual_seed(1)
    assert torch.equal(dropout(values[1:2], [6]), together[1:2])
    assert torch.equal(dropout(values[:2], [7, 5]), together[[2, 0]])
    assert len({tuple(row.tolist()) for row in together}) == 3


def test_the_share_that_is_asked_for_is_dropped_and_the_mean_stays() -> None:
    found = CaseDropout(0.2)(torch.ones(200, 50), range(200))
    assert abs(float((found == 0).float().mean()) - 0.2) < 0.02
    assert set(found.unique().tolist()) == {0.0, 1.25}


def test_prediction_drops_nothing_and_without_seeds_it_is_torchs_own() -> None:
    values = torch.ones(4, 8)
    assert torch.equal(CaseDropout(0.5).eval()(values, [1, 2, 3, 4]), values)
    torch.manual_seed(3)
    expected = torch.nn.Dropout(0.5)(values)
    torch.manual_seed(3)
    assert torch.equal(CaseDropout(0.5)(values), expected)
