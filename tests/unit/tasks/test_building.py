"""From config sections to one network: who reads whom, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from medmtl.data.dataset import Column, Cycle
from medmtl.models import CaseHead, MultiTaskNetwork
from medmtl.tasks import build_network, build_task
from medmtl.types import ConfigError

COLUMNS = {
    "anatomy": Column("anatomy", "mask", labels={"RV": 1, "MYO": 2, "LV": 3}),
    "tissue": Column("tissue", "mask", labels={"healthy": 1, "scar": 2}),
    "disease": Column("disease", "category", classes=("a", "b")),
}
UNET = {
    "type": "unet",
    "widths": [4, 8],
    "kernels": [[3, 3, 1], [3, 3, 3]],
    "strides": [[1, 1, 1], [2, 2, 1]],
}
ANATOMY = {"type": "segmentation", "target": "anatomy"}
TISSUE = {"type": "tissue", "target": "tissue", "inside": "anatomy.MYO"}
DISEASE = {"type": "classification", "target": "disease", "hidden": 4}


def network(
    sections: dict[str, dict[str, Any]], *, n_covariates: int = 0, backbone: dict[str, Any] | None = None
) -> MultiTaskNetwork:
    tasks = {name: build_task(name, section, COLUMNS) for name, section in sections.items()}
    return build_network(
        backbone or UNET, tasks, in_channels=1, n_covariates=n_covariates, cycle=Cycle("anatomy", "LV")
    )


def test_a_case_task_reads_every_task_with_masks_by_default() -> None:
    made = network({"disease": DISEASE, "tissue": TISSUE, "anatomy": ANATOMY})
    assert set(made.head("disease").reads_masks) == {"anatomy", "tissue"}
    assert made.needed(["disease"]) == ("anatomy", "tissue", "disease")


def test_a_case_task_that_reads_no_masks_needs_nobody() -> None:
    made = network({"disease": {**DISEASE, "masks": []}, "anatomy": ANATOMY})
    assert made.needed(["disease"]) == ("disease",)


@pytest.mark.parametrize("wants", [True, False])
def test_a_model_with_covariates_may_have_heads_that_do_not_read_them(wants: bool) -> None:
    made = network({"anatomy": ANATOMY, "disease": {**DISEASE, "covariates": wants}}, n_covariates=2).eval()
    head = made.head("disease")
    assert isinstance(head, CaseHead)
    assert head.inputs.covariates == (2 if wants else 0)
    assert head.linear is not None
    torch.nn.init.normal_(head.linear.weight)
    image = torch.randn(1, 1, 8, 8, 2)
    said = [
        made(image, torch.zeros(1, dtype=torch.int64), torch.ones(1, 3), torch.tensor([[170.0, height]]))
        for height in (60.0, 90.0)
    ]
    assert torch.equal(said[0]["disease"], said[1]["disease"]) != wants


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"tissue": TISSUE}, "'tissue' reads 'anatomy', which is no task"),
        (
            {"anatomy": ANATOMY, "tissue": {**TISSUE, "inside": "anatomy.MYOO"}},
            r"no TASK.STRUCTURE; did you mean 'anatomy.MYO'",
        ),
        ({"anatomy": ANATOMY, "tissue": {**TISSUE, "inside": "anatomy"}}, "no TASK.STRUCTURE"),
        ({"anatomy": ANATOMY, "disease": {**DISEASE, "masks": ["anatmy"]}}, "did you mean 'anatomy'"),
        ({"disease": {**DISEASE, "features": False}}, "reads nothing; turn on features, masks or covariates"),
        ({"disease": {**DISEASE, "pooling": "mask"}}, "pooling: mask needs at least one task with masks"),
        ({"disease": {"target": "disease"}}, "tasks.disease: needs `type`, one of classification"),
        ({"disease": {"type": "clasification"}}, "unknown task type 'clasification'; did you mean"),
        ({"disease": {"type": "classification"}}, "tasks.disease.target: is missing"),
        (
            {"disease": {**DISEASE, "hidden": 0}},
            "tasks.disease.hidden: .*greater than or equal to 1, found 0",
        ),
        ({"disease": {"type": "tests.helpers.own_members:NotATask"}}, "is not a task type: it must subclass"),
        ({"disease": {"type": "tests.helpers.own_members:Nobody"}}, "cannot import task type"),
    ],
)
def test_sections_that_do_not_go_together_are_refused(
    sections: dict[str, dict[str, Any]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        network(sections)


def test_a_misspelt_argument_of_the_backbone_is_refused() -> None:
    with pytest.raises(ConfigError, match="widhts"):
        network({"anatomy": ANATOMY}, backbone={"type": "unet", "widhts": [4, 8]})


def test_the_same_seed_gives_the_same_weights_and_leaves_the_callers_randomness_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    one, other = network({"anatomy": ANATOMY}), network({"anatomy": ANATOMY})
    assert torch.equal(torch.rand(1), expected)
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
