"""Every config that ships parses, names only what its dataset has, and builds a network that trains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from medmtl.config import ExperimentConfig, load_config
from medmtl.data.columns import Column, Schema
from medmtl.data.formats import FORMATS
from medmtl.plan import Wishes, make_plan
from medmtl.tasks import TASKS, Task, build_network, build_task
from medmtl.verbs import demo_config
from medmtl.weighting import build_weighting
from tests.helpers.cohorts import budget, cohort

CONFIGS = Path(__file__).parents[2] / "configs"
MEETS = {"acdc.yaml": "acdc", "phantom.yaml": "phantom", "demo.yaml": "phantom"}
SHIPPED = sorted([*(path.name for path in CONFIGS.glob("*.yaml")), "demo.yaml"])


def shipped(name: str) -> ExperimentConfig:
    return demo_config() if name == "demo.yaml" else load_config(CONFIGS / name)


def schema_for(name: str) -> Schema:
    return FORMATS.get(MEETS[name])().schema(Path())


def tasks_of(config: ExperimentConfig, columns: Mapping[str, Column]) -> dict[str, Task]:
    return {name: build_task(name, section, columns) for name, section in config.tasks.items()}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_config_says_which_dataset_it_is_for(name: str) -> None:
    assert MEETS[name] in FORMATS


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_config_builds_its_tasks_and_weighting_on_its_dataset(name: str) -> None:
    config, schema = shipped(name), schema_for(name)
    tasks = tasks_of(config, schema.columns)
    options = {key: value for key, value in config.weighting.items() if key != "type"}
    weighting = build_weighting(str(config.weighting["type"]), tuple(tasks), **options)
    assert tuple(tasks) == tuple(config.tasks) == weighting.tasks
    assert all(schema.columns[covariate].kind == "value" for covariate in config.covariates)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_config_builds_a_network_with_a_head_per_task(name: str) -> None:
    config, schema = shipped(name), schema_for(name)
    patch = config.preparation.patch
    assert patch is not None
    found = cohort((1.5, 1.5, 9.0), patch)
    narrow = {**config.backbone, "widths": [4] * len(config.backbone["widths"])}
    wishes = Wishes(config.preparation.spacing_mm, patch, backbone=narrow)
    plan = make_plan(found, wishes, budget())
    network = build_network(
        plan.backbone,
        tasks_of(config, schema.columns),
        in_channels=len(schema.channels),
        n_covariates=len(config.covariates),
        cycle=schema.cycle,
    )
    assert set(network.heads) == set(config.tasks)
    assert len(plan.backbone["widths"]) == len(config.backbone["widths"]), (
        "the patch has room for every level"
    )


def test_the_phantom_config_has_every_kind_of_task() -> None:
    kinds = {section["type"] for section in shipped("phantom.yaml").tasks.values()}
    assert kinds == set(TASKS)
