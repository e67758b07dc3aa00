"""Temperature scaling on probabilities whose right temperature is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmtl.inference.measure.calibrate import calibrated, fit_temperature
from medmtl.metrics import expected_calibration_error


def drawn(n: int, sharpness: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A softmax of logits times ``sharpness``, and classes drawn from that of the logits themselves."""
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.normal(size=(n, 4))
    true = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    classes = np.array([rng.choice(4, p=p) for p in true])
    sharp = np.exp(sharpness * logits)
    return sharp / sharp.sum(1, keepdims=True), classes


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_that_was_planted_is_found(sharpness: float) -> None:
    probabilities, truth = drawn(4000, sharpness)
    assert fit_temperature(probabilities, truth) == pytest.approx(sharpness, rel=0.1)


def test_calibration_lowers_the_error_on_cases_that_it_has_not_seen() -> None:
    probabilities, truth = drawn(400, 3.0)
    others, their_truth = drawn(4000, 3.0, seed=1)
    before = expected_calibration_error(others, their_truth, range(4))
    after = expected_calibration_error(
        calibrated(others, fit_temperature(probabilities, truth)), their_truth, range(4)
    )
    assert before > 0.15
    assert after < 0.04


def test_a_temperature_of_one_changes_nothing_and_none_changes_the_class() -> None:
    probabilities, _ = drawn(50, 2.0)
    assert np.allclose(calibrated(probabilities, 1.0), probabilities)
    for temperature in (0.2, 5.0):
        assert (calibrated(probabilities, temperature).argmax(1) == probabilities.argmax(1)).all()


def test_few_cases_are_left_as_they_are() -> None:
    probabilities, truth = drawn(9, 3.0)
    assert fit_temperature(probabilities, truth) == 1.0


def test_cases_that_are_all_right_do_not_make_it_certain() -> None:
    probabilities = np.tile([0.7, 0.3], (20, 1))
    found = fit_temperature(probabilities, np.zeros(20, dtype=np.int64))
    assert 0.2 < found < 1.0
    assert calibrated(probabilities, found)[0, 0] < 0.9999


@given(st.floats(0.2, 10), st.integers(2, 6))
def test_calibrated_probabilities_sum_to_one(temperature: float, classes: int) -> None:
    probabilities = np.random.default_rng(classes).dirichlet(np.ones(classes), 5)
    assert np.allclose(calibrated(probabilities, temperature).sum(1), 1.0)
