"""Classification metrics: no cases, missing classes, unknown names, and scikit-learn as the oracle."""

import math

import numpy as np
import pytest

from medmtl.metrics import (
    accuracy,
    balanced_accuracy,
    confusion_matrix,
    expected_calibration_error,
    macro_auc,
    one_vs_rest_auc,
)

CLASSES = ("NOR", "DCM", "HCM")


def sample(seed: int, n: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    truth = generator.choice(CLASSES, n, p=(0.6, 0.3, 0.1))
    logits = generator.normal(size=(n, 3)) + 1.5 * (truth[:, None] == np.array(CLASSES))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return np.array(CLASSES)[probabilities.argmax(axis=1)], probabilities.round(2), truth


def test_without_cases_every_metric_is_undefined() -> None:
    nothing = np.empty((0, 3))
    assert math.isnan(accuracy([], []))
    assert math.isnan(balanced_accuracy([], []))
    assert math.isnan(macro_auc(nothing, [], CLASSES))
    assert math.isnan(expected_calibration_error(nothing, [], CLASSES))
    assert confusion_matrix([], [], CLASSES).sum() == 0


def test_an_unknown_class_is_named() -> None:
    with pytest.raises(ValueError, match="class 'dcm' is not among"):
        confusion_matrix(["NOR"], ["dcm"], CLASSES)
    with pytest.raises(ValueError, match="class 'dcm' is not among"):
        macro_auc([[1, 0, 0]], ["dcm"], CLASSES)


def test_probabilities_of_the_wrong_shape_or_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be \(1, 3\) for 1 cases and 3 classes, found \(1, 2\)"):
        macro_auc([[1, 0]], ["NOR"], CLASSES)
    with pytest.raises(ValueError, match="nan or inf"):
        macro_auc([[1, 0, math.nan]], ["NOR"], CLASSES)
    with pytest.raises(ValueError, match="bins must be at least 1"):
        expected_calibration_error([[1, 0, 0]], ["NOR"], CLASSES, bins=0)


def test_different_numbers_of_cases_are_refused() -> None:
    with pytest.raises(ValueError, match=r"found \(1,\) and \(2,\)"):
        accuracy(["NOR"], ["NOR", "DCM"])


def test_a_class_that_no_case_has_is_left_out_of_the_macro_auc_and_counted() -> None:
    probabilities = [[0.8, 0.2, 0.0], [0.3, 0.6, 0.1], [0.6, 0.3, 0.1]]
    truth = ["NOR", "DCM", "DCM"]
    by_class = one_vs_rest_auc(probabilities, truth, CLASSES)
    assert by_class["NOR"] == 1
    assert math.isnan(by_class["HCM"])
    value = macro_auc(probabilities, truth, CLASSES)
    assert (value, value.n) == (1.0, 2)


def test_rows_of_the_confusion_matrix_are_the_truth() -> None:
    matrix = confusion_matrix(["DCM", "DCM", "NOR"], ["NOR", "NOR", "HCM"], CLASSES)
    assert matrix.tolist() == [[0, 2, 0], [0, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize("seed", range(5))
def test_metrics_equal_scikit_learn(seed: int) -> None:
    from sklearn import metrics

    predicted, probabilities, truth = sample(seed)
    one_hot = truth[:, None] == np.array(CLASSES)
    assert accuracy(predicted, truth) == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert balanced_accuracy(predicted, truth) == pytest.approx(
        metrics.balanced_accuracy_score(truth, predicted)
    )
    assert macro_auc(probabilities, truth, CLASSES) == pytest.approx(
        metrics.roc_auc_score(one_hot, probabilities, average="macro")
    )
    np.testing.assert_array_equal(
        confusion_matrix(predicted, truth, CLASSES),
        metrics.confusion_matrix(truth, predicted, labels=CLASSES),
    )


def test_a_sure_and_right_model_is_calibrated_and_a_sure_and_wrong_one_is_not() -> None:
    sure = np.eye(3)
    assert expected_calibration_error(sure, CLASSES, CLASSES) == 0
    assert expected_calibration_error(sure, CLASSES[::-1], CLASSES) == pytest.approx(2 / 3)


def test_the_calibration_error_is_the_one_worked_out_by_hand() -> None:
    # Bin (0.5, 1]: confidences 0.9, 0.7, 0.6 of which two are right: |2/3 - 2.2/3| = 0.0667; bin (0, 0.5]:
    # one case of confidence 0.4, wrong: 0.4. Weighted by size: (3 * 0.0667 + 0.4) / 4 = 0.15.
    probabilities = [[0.9, 0.1, 0.0], [0.7, 0.2, 0.1], [0.2, 0.6, 0.2], [0.4, 0.3, 0.3]]
    truth = ["NOR", "NOR", "HCM", "DCM"]
    assert expected_calibration_error(probabilities, truth, CLASSES, bins=2) == pytest.approx(0.15)
