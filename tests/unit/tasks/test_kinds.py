"""What each kind of task does in particular: units, decoding, perfect and worthless predictions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medmtl.data.dataset import Column
from medmtl.data.nifti import Geometry
from medmtl.data.prepare import PreparedCase
from medmtl.tasks import CaseResult, Regression, Segmentation, Task, Tissue, build_task, value_name
from medmtl.types import Batch, ConfigError

COLUMNS = {
    "anatomy": Column("anatomy", "mask", labels={"LV": 7, "RV": 2}),
    "scar": Column("scar", "mask", labels={"healthy": 4, "scar": 9}),
    "t1": Column("t1", "map", unit="ms"),
    "disease": Column("disease", "category", classes=("NOR", "DCM", "HCM")),
    "EF": Column("EF", "value", unit="%"),
    "age": Column("age", "value"),
}
SHAPE = (2, 2, 2)


def task(kind: str, **options: object) -> Task:
    return build_task("it", {"type": kind, **options}, COLUMNS)


def case(**labels: object) -> PreparedCase:
    made = PreparedCase(
        case_id="c",
        image=torch.zeros(1, 1, *SHAPE),
        spacing_mm=(1.0, 1.0, 1.0),
        source=Geometry(SHAPE, 1, np.eye(4)),
        is_4d=False,
        affine=np.eye(4),
    )
    for name, label in labels.items():
        if isinstance(label, float):
            made.values[name] = label
        elif COLUMNS[name].kind == "mask":
            made.masks[name] = torch.as_tensor(label)
            made.labelled[name] = (True,)
        else:
            made.maps[name] = torch.as_tensor(label)
            made.labelled[name] = (True,)
    return made


def batch(n: int, **targets: torch.Tensor) -> Batch:
    image = torch.zeros(n, 1, *SHAPE)
    return Batch(image, torch.arange(n), torch.ones(n, 3), torch.zeros(n, 0), targets)


def mask(*values: int) -> torch.Tensor:
    return torch.tensor(values).reshape(1, *SHAPE)


def scores(index: torch.Tensor, classes: int) -> torch.Tensor:
    """Logits ``(1, K, ...)`` that are sure of a class index per voxel."""
    return 40 * torch.nn.functional.one_hot(index, classes).movedim(-1, 1).float()


def test_segmentation_is_without_loss_where_it_is_sure_and_right() -> None:
    found = task("segmentation", target="anatomy")
    target = mask(0, 0, 7, 7, 2, 2, 0, 7)
    right = torch.tensor([0, 0, 1, 1, 2, 2, 0, 1]).reshape(1, *SHAPE)
    assert found.loss([scores(right, 3)], batch(1, anatomy=target)).item() == pytest.approx(0, abs=1e-4)
    assert found.loss([scores((right + 1) % 3, 3)], batch(1, anatomy=target)).item() > 10


def test_segmentation_does_not_look_at_voxels_that_are_not_labelled() -> None:
    found = task("segmentation", target="anatomy")
    target = mask(0, 0, 7, 7, 255, 255, 255, 255)
    right = torch.tensor([0, 0, 1, 1, 0, 0, 0, 0]).reshape(1, *SHAPE)
    other = torch.tensor([0, 0, 1, 1, 2, 1, 2, 1]).reshape(1, *SHAPE)
    losses = [found.loss([scores(guess, 3)], batch(1, anatomy=target)).item() for guess in (right, other)]
    assert losses[0] == losses[1]


def test_segmentation_decodes_to_the_voxel_values_of_the_dataset() -> None:
    found = task("segmentation", target="anatomy")
    index = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1]).reshape(1, *SHAPE)
    decoded = found.decode_dense(found.stitchable([scores(index, 3)]), {})
    assert decoded.dtype == np.uint8
    assert decoded.ravel().tolist() == [0, 7, 2, 0, 7, 2, 0, 7]


def test_segmentation_scores_1_for_the_truth_and_0_for_its_opposite() -> None:
    found = task("segmentation", target="anatomy")
    truth = mask(0, 0, 7, 7, 2, 2, 255, 0)
    opposite = np.array([7, 2, 2, 0, 7, 0, 0, 7], np.uint8).reshape(1, *SHAPE)
    right = CaseResult(dense={"it": np.where(truth.numpy() == 255, 7, truth.numpy())})
    assert found.validate([right], [case(anatomy=truth.to(torch.uint8))])["score"] == 1
    assert found.validate([CaseResult(dense={"it": opposite})], [case(anatomy=truth)])["score"] == 0


@pytest.mark.parametrize("levels", [0, 2])
def test_deep_supervision_counts_coarser_levels_half_as_much_each(levels: int) -> None:
    found = task("segmentation", target="anatomy", deep_supervision=levels)
    assert isinstance(found, Segmentation)
    target = torch.zeros(1, 4, 4, 4, dtype=torch.int64)
    target[:, :2] = 7
    outputs = [torch.zeros(1, 3, *(4 // 2**level,) * 3) for level in range(levels + 1)]
    made = Batch(
        torch.zeros(1, 1, 4, 4, 4), torch.zeros(1, dtype=torch.int64), torch.ones(1, 3), torch.zeros(1, 0)
    )
    made.targets = {"anatomy": target}
    alone = [found.loss([output], made).item() for output in outputs]
    weights = [0.5**level for level in range(levels + 1)]
    expected = float(np.average(alone, weights=weights))
    assert found.loss(outputs, made).item() == pytest.approx(expected, rel=1e-6)


def test_tissue_is_learned_only_where_there_is_one() -> None:
    found = task("tissue", target="scar", inside="anatomy.LV")
    target = mask(0, 0, 4, 4, 9, 9, 0, 0)
    right = torch.tensor([0, 0, 0, 0, 1, 1, 0, 0]).reshape(1, *SHAPE)
    other = torch.tensor([1, 1, 0, 0, 1, 1, 1, 1]).reshape(1, *SHAPE)
    losses = [found.loss([scores(guess, 2)], batch(1, scar=target)).item() for guess in (right, other)]
    assert losses == pytest.approx([0, 0], abs=1e-4)


def test_tissue_without_any_tissue_voxel_in_the_batch_has_a_loss_of_0_and_no_gradient() -> None:
    found = task("tissue", target="scar", inside="anatomy.LV")
    logits = torch.randn(1, 2, *SHAPE, requires_grad=True)
    loss = found.loss([logits], batch(1, scar=mask(*[0] * 8)))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert logits.grad is not None
    assert logits.grad.abs().sum() == 0


def test_tissue_is_said_only_inside_its_structure() -> None:
    found = task("tissue", target="scar", inside="anatomy.LV")
    assert isinstance(found, Tissue)
    found._host_value = 7
    index = torch.tensor([0, 1, 0, 1, 0, 1, 0, 1]).reshape(1, *SHAPE)
    host = np.array([0, 0, 7, 7, 2, 2, 7, 7], np.uint8).reshape(1, *SHAPE)
    decoded = found.decode_dense(found.stitchable([scores(index, 2)]), {"anatomy": host})
    assert decoded.ravel().tolist() == [0, 0, 4, 9, 0, 0, 4, 9]


def test_dense_regression_learns_in_standard_deviations_and_says_milliseconds() -> None:
    found = task("dense_regression", target="t1")
    values = torch.tensor([900.0, 1100, np.nan, np.nan, 900, 1100, np.nan, np.nan]).reshape(1, *SHAPE)
    found.fit([case(t1=values)])
    assert found.state() == {"mean": 1000.0, "std": 100.0}
    said = torch.full((1, 1, *SHAPE), -1.0)
    assert found.decode_dense(found.stitchable([said]), {}).ravel().tolist() == [900.0] * 8
    loss = found.loss([said], batch(1, t1=values))
    assert loss.item() == pytest.approx(1.0)  # right on half of the voxels, two deviations off on the others


def test_dense_regression_scores_the_share_of_variance_explained() -> None:
    found = task("dense_regression", target="t1")
    truth = case(t1=torch.tensor([900.0, 1100] * 4).reshape(1, *SHAPE))
    found.fit([truth])
    perfect = found.validate([CaseResult(dense={"it": truth.maps["t1"].numpy()})], [truth])
    mean = found.validate([CaseResult(dense={"it": np.full((1, *SHAPE), 1000.0)})], [truth])
    assert perfect == {"mae": 0.0, "score": 1.0}
    assert mean == {"mae": 100.0, "score": 0.0}


def test_classification_names_its_class_and_its_probabilities_sum_to_1() -> None:
    found = task("classification", target="disease")
    rows = found.decode_case(torch.tensor([[0.0, 5.0, 0.0], [2.0, 0.0, 0.0]]))
    assert [row["class"] for row in rows] == ["DCM", "NOR"]
    for row in rows:
        assert list(row) == ["class", "probability.NOR", "probability.DCM", "probability.HCM"]
        assert sum(float(v) for v in list(row.values())[1:]) == pytest.approx(1)


def test_classification_scores_the_balanced_accuracy() -> None:
    found = task("classification", target="disease")
    cases = [case(disease=0.0), case(disease=0.0), case(disease=0.0), case(disease=1.0), case()]
    results = [CaseResult(values={"it": {"class": "NOR"}}) for _ in cases]
    metrics = found.validate(results, cases)
    assert metrics == {"accuracy": 0.75, "balanced_accuracy": 0.5, "score": 0.5}


def test_regression_goes_from_physical_units_to_deviations_and_back() -> None:
    found = task("regression", targets=["EF", "age"])
    found.fit([case(EF=50.0, age=40.0), case(EF=60.0), case(age=60.0)])
    assert found.state() == {"mean": [55.0, 50.0], "std": [5.0, 10.0]}
    [row] = found.decode_case(torch.tensor([[1.0, -2.0]]))
    assert row == {"EF [%]": 60.0, "age": 30.0}
    right = torch.tensor([[1.0, -2.0]])
    target = batch(1, EF=torch.tensor([60.0]), age=torch.tensor([30.0]))
    assert found.loss(right, target).item() == 0


def test_regression_learns_from_cases_that_have_some_of_its_values() -> None:
    found = task("regression", targets=["EF", "age"])
    found.fit([case(EF=50.0, age=40.0), case(EF=60.0, age=60.0)])
    output = torch.zeros(2, 2, requires_grad=True)
    known = batch(2, EF=torch.tensor([60.0, torch.nan]))
    loss = found.loss(output, known)
    loss.backward()
    assert output.grad is not None
    assert output.grad.ne(0).tolist() == [[True, False], [False, False]]


def test_regression_refuses_a_value_that_no_case_has_even_if_the_others_are_there() -> None:
    found = task("regression", targets=["EF", "age"])
    with pytest.raises(ConfigError, match="'it' learns from age, but none of the 2 training cases"):
        found.fit([case(EF=50.0), case(EF=60.0)])


def test_regression_of_a_value_that_is_the_same_everywhere_stays_finite() -> None:
    found = task("regression", targets=["EF"])
    assert isinstance(found, Regression)
    found.fit([case(EF=150.3), case(EF=150.3)])
    loss = found.loss(torch.zeros(1, 1), batch(1, EF=torch.tensor([150.3])))
    assert loss.item() == pytest.approx(0, abs=1e-3)
    assert found.decode_case(torch.zeros(1, 1))[0]["EF [%]"] == pytest.approx(150.3)


def test_regression_scores_0_for_the_mean_and_1_for_the_truth() -> None:
    found = task("regression", targets=["EF"])
    cases = [case(EF=50.0), case(EF=60.0)]
    found.fit(cases)
    means = [CaseResult(values={"it": {"EF [%]": 55.0}}) for _ in cases]
    right = [CaseResult(values={"it": {"EF [%]": c.values["EF"]}}) for c in cases]
    assert found.validate(means, cases) == {"mae.EF": 5.0, "score": 0.0}
    assert found.validate(right, cases) == {"mae.EF": 0.0, "score": 1.0}


def test_a_value_without_a_unit_has_no_brackets() -> None:
    assert value_name("EF", "%") == "EF [%]"
    assert value_name("age", "") == "age"


@pytest.mark.parametrize("name", ["../x", "a.b", "a b", "", "2d", "values", "train", "training", "type"])
def test_a_name_that_cannot_name_files_and_modules_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be used as a name"):
        build_task(name, {"type": "segmentation", "target": "anatomy"}, COLUMNS)
