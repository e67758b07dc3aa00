"""The errors say how a verb exits, and a batch knows its size."""

from __future__ import annotations

import pytest
import torch

from medmtl.types import (
    Batch,
    CaseError,
    ConfigError,
    DatasetError,
    Finding,
    MedmtlError,
    OutputError,
)


@pytest.mark.parametrize("error", [ConfigError, DatasetError, OutputError])
def test_what_stops_a_verb_exits_with_2(error: type[MedmtlError]) -> None:
    assert error("why").exit_code == 2
    assert isinstance(error("why"), MedmtlError)


def test_what_stops_one_case_exits_with_1_and_has_a_code() -> None:
    error = CaseError("LABEL_VALUES", "a.nii.gz: found 7")
    assert (error.exit_code, error.code, str(error)) == (1, "LABEL_VALUES", "a.nii.gz: found 7")


def test_a_finding_compares_by_value() -> None:
    assert Finding("GAP", "warning", "a slice is missing") == Finding("GAP", "warning", "a slice is missing")


def test_a_batch_counts_cases_not_frames() -> None:
    batch = Batch(
        image=torch.zeros(3, 1, 4, 4, 2),
        case_of_frame=torch.tensor([0, 0, 1]),
        spacing_mm=torch.ones(2, 3),
        covariates=torch.zeros(2, 0),
    )
    assert batch.n_cases == 2
