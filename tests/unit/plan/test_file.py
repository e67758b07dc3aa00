from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from medmtl.plan import Plan, Wishes, make_plan, plan_text, read_plan, same_channels
from medmtl.types import ConfigError
from tests.helpers.cohorts import budget, cohort

FOUND = cohort((1.5, 1.5, 8.0), (96, 96, 11), modality="MR", channels=("cine",))


@pytest.fixture
def plan() -> Plan:
    return make_plan(FOUND, Wishes(backbone={"widths": [4, 8, 16]}), budget())


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (
            ("medmtl_plan: 1", "medmtl_plan: 7"),
            "is a plan of version 7, this medmtl reads version 1; make it anew",
        ),
        (("medmtl_plan: 1", "spacing: 1"), r"is no plan of medmtl \(its first key is `medmtl_plan: 1`\)"),
        (("batch_size:", "batchsize:"), "batchsize: unknown key; did you mean 'batch_size'"),
        (("batch_size: ", "batch_size: 0 #"), "batch_size: must be greater than or equal to 1, found 0"),
        (("normalization: zscore", "normalization: minmax"), "normalization: must be auto, zscore"),
        (("spacing_mm: [1.5", "spacing_mm: [-1.5"), "spacing_mm: must be above 0, found -1.5"),
        (("spacing_mm: [", "spacing_mm: [["), "is not valid YAML"),
    ],
)
def test_an_edit_that_went_wrong_is_one_sentence(
    plan: Plan, tmp_path: Path, edit: tuple[str, str], sentence: str
) -> None:
    path, text = tmp_path / "plan.yaml", plan_text(plan, FOUND, "tiny")
    assert edit[0] in text
    path.write_text(text.replace(edit[0], edit[1], 1))
    with pytest.raises(ConfigError, match=sentence):
        read_plan(path)


def test_a_missing_plan_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such plan; make one with `medmtl plan DATASET -o"):
        read_plan(tmp_path / "plan.yaml")


def test_a_plan_for_other_channels_is_refused(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(plan_text(plan, FOUND, "tiny"))
    read = read_plan(tmp_path / "plan.yaml")
    same_channels(read, ("lge",), "plan.yaml")
    with pytest.raises(ConfigError, match=r"was made for 1 channels \(cine\), the dataset has 2 \(ct, pet\)"):
        same_channels(read, ("ct", "pet"), "plan.yaml")


def test_a_plan_is_read_as_it_was_written(plan: Plan, tmp_path: Path) -> None:
    path, text = tmp_path / "plan.yaml", plan_text(plan, FOUND, "tiny")
    path.write_text(text)
    read = read_plan(path)
    assert read.spacing_mm == plan.preparation.spacing_mm
    assert read.patch == plan.preparation.patch
    assert read.backbone == plan.backbone
    assert read.batch_size == plan.batch_size
    assert yaml.safe_load(text) == {"medmtl_plan": 1, "channels": ["cine"], **plan.as_dict()}


def test_every_choice_stands_below_its_reason_and_what_was_found_above_all(plan: Plan) -> None:
    lines = plan_text(plan, FOUND, "tiny").splitlines()
    assert lines[0].startswith("# medmtl plan of tiny: 20 cases")
    assert "#   voxels: 1.5 x 1.5 x 8 mm" in lines
    assert all(len(line) <= 110 for line in lines)
    for key in plan.as_dict():
        above = lines[next(i for i, line in enumerate(lines) if line.startswith(f"{key}:")) - 1]
        assert above.startswith("# "), key
