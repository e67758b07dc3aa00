"""A config is data only and strict: what cannot be used is named, with the nearest that can."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from medmtl.config import apply_overrides, json_schema, load_config, parse_config
from medmtl.models import BACKBONES
from medmtl.tasks import TASKS
from medmtl.types import ConfigError
from medmtl.verbs import demo_config
from medmtl.weighting import WEIGHTINGS

CONFIGS = Path(__file__).parents[2] / "configs"
SHIPPED = sorted(CONFIGS.glob("*.yaml"))
CONFIG: dict[str, Any] = {
    "dataset": "DATASET",
    "backbone": {"type": "unet", "widths": [4, 8]},
    "tasks": {
        "anatomy": {"type": "segmentation", "target": "anatomy"},
        "disease": {"type": "classification", "target": "disease"},
    },
    "weighting": {"type": "uw-so", "temperature": 20.0},
    "training": {"epochs": 2, "augmentation": {"zoom": 0.1}},
}


def changed(**overrides: Any) -> dict[str, Any]:
    """The config with values set at dotted places."""
    config = copy.deepcopy(CONFIG)
    for key, value in overrides.items():
        node = config
        *path, last = key.split("__")
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    return config


def problems_of(config: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(config, where="c.yaml")
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("sed", "did you mean 'seed'"),
        ("taskz", "did you mean 'tasks'"),
        ("preparation__pach", "did you mean 'patch'"),
        ("training__epochz", "did you mean 'epochs'"),
        ("training__augmentation__zom", "did you mean 'zoom'"),
        ("tasks__anatomy__deep_supervison", "did you mean 'deep_supervision'"),
        ("tasks__disease__label_smoothin", "did you mean 'label_smoothing'"),
        ("backbone__residul", "did you mean 'residual'"),
        ("weighting__temperatur", "did you mean 'temperature'"),
        ("zzz", "known are backbone, covariates"),
    ],
)
def test_an_unknown_key_at_any_level_is_named_with_the_nearest(key: str, hint: str) -> None:
    (line,) = problems_of(changed(**{key: 1}))
    assert line.startswith(f"c.yaml: {key.replace('__', '.')}: unknown key; {hint}")


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("seed", -1, "must be greater than or equal to 0, found -1"),
        ("seed", True, "must be a valid integer, found True"),
        ("dataset", 3, "must be a valid string, found 3"),
        ("covariates", "height", "must be a valid array, found 'height'"),
        ("preparation", [1], "must be a mapping"),
        ("preparation__spacing_mm", [1.5, 1.5], "is missing"),
        ("preparation__spacing_mm", [0, 1.5, None], "must be greater than 0, found 0"),
        ("preparation__patch", [16, 16, 0], "must be greater than or equal to 1, found 0"),
        ("preparation__normalization", "z-score", "must be auto, zscore, window"),
        ("training__epochs", "ten", "must be a valid integer, found 'ten'"),
        ("training__epochs", 2.5, "must be a valid integer, found 2.5"),
        ("training__learning_rate", 0, "must be greater than 0, found 0"),
        ("training__weight_decay", float("inf"), "must be a finite number, found inf"),
        ("training__keep", "bst", "must be 'best' or 'last', found 'bst'"),
        ("training__augmentation__probability", 2, "must be less than or equal to 1, found 2"),
        ("tasks__anatomy", "segmentation", "must be a mapping"),
        ("tasks__anatomy__target", ["anatomy"], "must be a valid string, found ['anatomy']"),
        ("tasks__anatomy__deep_supervision", 9, "must be less than or equal to 4, found 9"),
        ("tasks__disease__pooling", "max", "must be"),
        ("backbone__widths", 32, "must be a valid array, found 32"),
        ("backbone__widths", [4, "wide"], "must be a valid integer, found 'wide'"),
        ("weighting__temperature", "hot", "must be a valid number, found 'hot'"),
    ],
)
def test_a_wrong_value_is_named_with_its_place_and_what_was_found(key: str, value: Any, says: str) -> None:
    (line, *_) = problems_of(changed(**{key: value}))
    assert line.startswith(f"c.yaml: {key.replace('__', '.')}")
    assert says in line


def test_a_value_that_the_weighting_itself_refuses_is_named() -> None:
    assert "weighting: temperature" in problems_of(changed(weighting__temperature=-1.0))[0]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("evry", {"disease": 3}, "c.yaml: weighting.evry: unknown key; did you mean 'every'?"),
        ("every", {"diseas": 3}, "weighting: every has an unknown task 'diseas'; did you mean 'disease'?"),
        (
            "every",
            {"disease": 0},
            "weighting: every['disease'] must be a whole number of at least 1; found 0",
        ),
        ("every", {"disease": 1.5}, "weighting.every.disease: must be a valid integer, found 1.5"),
        ("per", "epochs", "weighting.per: must be 'iteration' or 'epoch', found 'epochs'"),
        ("warmup_steps", -1, "weighting: warmup_steps must be a whole number of at least 0; found -1"),
        ("on_bad_loss", "skip", "weighting.on_bad_loss: must be 'stop', 'skip-step' or 'drop-task'"),
    ],
)
def test_a_schedule_or_policy_on_top_of_the_weighting_is_checked_too(
    key: str, value: Any, message: str
) -> None:
    (problem,) = problems_of(changed(**{f"weighting__{key}": value}))
    assert message in problem


def test_every_weighting_takes_a_schedule_and_a_policy() -> None:
    common = {"every": {"disease": 3}, "per": "iteration", "warmup_steps": 100, "on_bad_loss": "drop-task"}
    for options in ({"type": "uw-so", "temperature": 20}, {"type": "ew"}, {"type": "balanced"}):
        config = parse_config(CONFIG | {"weighting": options | common})
        assert config.weighting == options | common
    own = {"type": "tests.helpers.own_members:LargestFirst"}
    assert parse_config(CONFIG | {"weighting": own | common}).weighting == own | common
    changed_later = apply_overrides(CONFIG, ["weighting.every.disease=4"])
    assert parse_config(changed_later).weighting["every"] == {"disease": 4}


@pytest.mark.parametrize("section", ["backbone", "weighting"])
def test_a_section_without_a_type_lists_the_types(section: str) -> None:
    (line,) = problems_of(changed(**{section: {}}))
    assert line.startswith(f"c.yaml: {section}: needs `type`, one of ")


def test_a_task_without_a_type_lists_the_types() -> None:
    (line,) = problems_of(changed(tasks__anatomy={"target": "anatomy"}))
    assert line.startswith("c.yaml: tasks.anatomy: needs `type`, one of classification, dense_regression")


@pytest.mark.parametrize(
    ("key", "name", "near"),
    [
        ("tasks__anatomy__type", "segmentaton", "segmentation"),
        ("backbone__type", "unett", "unet"),
        ("weighting__type", "uwso", "uw-so"),
    ],
)
def test_a_misspelt_type_suggests_the_nearest(key: str, name: str, near: str) -> None:
    line = problems_of(changed(**{key: name}))[0]
    assert repr(name) in line
    assert f"did you mean {near!r}" in line


def test_no_task_is_no_experiment() -> None:
    assert "tasks" in problems_of(changed(tasks={}))[0]


@pytest.mark.parametrize("name", ["a.b", "../a", "1st", "two words", "train", "values"])
def test_a_name_that_no_file_or_network_part_can_have_is_refused(name: str) -> None:
    tasks = {name: {"type": "segmentation", "target": "anatomy"}}
    assert f"tasks.{name}: cannot be used as a name" in problems_of(changed(tasks=tasks))[0]


def test_only_the_first_segmentation_may_be_called_segmentation() -> None:
    first = {"type": "segmentation", "target": "anatomy"}
    parsed = parse_config(changed(tasks={"segmentation": first, "second": first}))
    assert list(parsed.tasks) == ["segmentation", "second"]
    line = problems_of(changed(tasks={"first": first, "segmentation": first}))[0]
    assert "segmentation.nii.gz, which is that of the first segmentation (first)" in line


def test_all_problems_are_listed_at_once() -> None:
    config = changed(tasks__anatomy__targt="x", backbone__widht=1, weighting__temperatur=1)
    lines = problems_of(config)
    assert len(lines) == 3
    assert all(line.startswith("c.yaml: ") for line in lines)


def test_what_is_left_out_has_a_default() -> None:
    parsed = parse_config({"tasks": CONFIG["tasks"]})
    assert parsed.weighting == {"type": "balanced"}
    assert parsed.backbone["type"] == "unet"
    assert parsed.device == "auto"
    assert parsed.training.epochs > 0


def test_a_config_file_and_its_data_are_the_same_config(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    assert load_config(path) == parse_config(CONFIG)


def test_a_resolved_config_parses_to_itself() -> None:
    parsed = parse_config(CONFIG)
    assert parse_config(parsed.model_dump(mode="json")) == parsed


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- a\n- b\n", "must be a mapping of `key: value` lines"),
        ("", "must be a mapping"),
        ("seed: [1\n", "is not valid YAML: line 2"),
        ("seed: 1\ntasks: {}\nseed: 2\n", "line 3: the key 'seed' stands there twice"),
        ("tasks: !!python/name:os.system\n", "is not valid YAML"),
    ],
)
def test_a_file_that_is_no_config_says_why(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)


def test_a_file_that_is_not_there_or_a_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such config file"):
        load_config(tmp_path / "c.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        load_config(tmp_path)


def test_a_file_in_another_encoding_says_so(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes("dataset: Müller\n".encode("latin-1"))
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "c.yaml")


def test_an_override_goes_to_its_place_and_leaves_the_original_alone() -> None:
    before = copy.deepcopy(CONFIG)
    found = apply_overrides(CONFIG, ["training.epochs=7", "training.augmentation.zoom=0.5", "seed=3"])
    assert (found["training"], found["seed"]) == ({"epochs": 7, "augmentation": {"zoom": 0.5}}, 3)
    assert before == CONFIG


def test_an_override_makes_the_sections_that_it_needs() -> None:
    found = apply_overrides({"preparation": None}, ["preparation.patch=[16, 16, 4]", "training.epochs=1"])
    assert found == {"preparation": {"patch": [16, 16, 4]}, "training": {"epochs": 1}}


def test_a_new_type_drops_the_options_of_the_old_one() -> None:
    assert apply_overrides(CONFIG, ["weighting.type=ew"])["weighting"] == {"type": "ew"}
    kept = apply_overrides(CONFIG, ["weighting.type=uw-so"])["weighting"]
    assert kept == {"type": "uw-so", "temperature": 20.0}


def test_options_may_follow_a_new_type() -> None:
    found = apply_overrides(CONFIG, ["weighting.type=dwa", "weighting.temperature=2.0"])
    assert found["weighting"] == {"type": "dwa", "temperature": 2.0}


def test_a_type_at_the_top_is_an_unknown_key_and_drops_nothing() -> None:
    (line,) = problems_of(apply_overrides(CONFIG, ["type=uw"]))
    assert line.startswith("c.yaml: type: unknown key")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("training.epochs", "write overrides as key=value"),
        ("=3", "write overrides as key=value"),
        ("training..epochs=3", "write overrides as key=value"),
        ("seed.more=3", "'seed' is a value, nothing lies below it"),
        ("seed=[1", "the value is not valid YAML"),
    ],
)
def test_an_override_that_cannot_be_applied_says_why(override: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        apply_overrides(CONFIG | {"seed": 0}, [override])
    assert str(caught.value).startswith(repr(override))
    assert says in str(caught.value)


def test_an_override_may_use_scientific_notation() -> None:
    found = apply_overrides(CONFIG, ["training.learning_rate=1e-4"])
    assert parse_config(found).training.learning_rate == 1e-4


def test_members_of_ones_own_are_taken_with_their_options() -> None:
    own = "tests.helpers.own_members"
    config = changed(
        tasks__anatomy__type=f"{own}:Doubled",
        weighting={"type": f"{own}:LargestFirst"},
        backbone={"type": f"{own}:TwoLevels", "width": 6},
    )
    assert parse_config(config).backbone["width"] == 6
    assert (
        "backbone.widht: unknown key; did you mean 'width'"
        in problems_of(config | {"backbone": {"type": f"{own}:TwoLevels", "widht": 6}})[0]
    )


def own_type(member: dict[str, Any]) -> bool:
    return member["properties"]["type"].get("pattern") == ":"


@pytest.mark.parametrize(
    ("section", "registry"),
    [("tasks", TASKS), ("backbone", BACKBONES), ("weighting", WEIGHTINGS)],
)
def test_the_schema_names_every_member_and_its_options(section: str, registry: Any) -> None:
    found = json_schema()["properties"][section]
    members = found.get("additionalProperties", found)["anyOf"]
    by_type = {m["properties"]["type"]["const"]: m for m in members if not own_type(m)}
    assert sorted(by_type) == list(registry)
    assert sum(map(own_type, members)) == 1, "somebody's own member may be named too"
    assert all(m["additionalProperties"] is False and "type" in m["required"] for m in by_type.values())


def test_the_schema_names_every_option_of_every_kind_of_task() -> None:
    members = json_schema()["properties"]["tasks"]["additionalProperties"]["anyOf"]
    for member in members:
        if not own_type(member):
            kind = member["properties"]["type"]["const"]
            assert set(member["properties"]) == {"type", *TASKS.get(kind).Options.model_fields}


def test_every_option_of_a_task_and_of_the_training_is_described() -> None:
    schema = json_schema()
    members = schema["properties"]["tasks"]["additionalProperties"]["anyOf"]
    sections = [member for member in members if not own_type(member)]
    for section in (*sections, *schema["$defs"].values()):
        for name, option in section["properties"].items():
            assert {"description", "const", "$ref"} & option.keys(), name


def test_the_shipped_schema_is_up_to_date() -> None:
    shipped = (CONFIGS / "schema.json").read_text()
    assert shipped == json.dumps(json_schema(), indent=2) + "\n", (
        "write it again: medmtl schema -o configs/schema.json"
    )


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_config_names_the_schema_in_its_first_line(path: Path) -> None:
    assert path.read_text().splitlines()[0] == "# yaml-language-server: $schema=schema.json"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_config_is_valid_by_the_schema(path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(json_schema())
    config = yaml.safe_load(path.read_text())
    assert [error.message for error in validator.iter_errors(config)] == []
    wrong = config | {"trainig": {}}
    assert [error.message for error in validator.iter_errors(wrong)] != []


@pytest.mark.parametrize("key", ["tasks__anatomy__targt", "weighting__temprature", "backbone__widht", "sed"])
def test_the_schema_finds_a_misspelt_key_too(key: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(json_schema())
    assert validator.is_valid(CONFIG)
    assert not validator.is_valid(changed(**{key: 1}))


def test_the_demos_config_is_valid() -> None:
    assert set(demo_config().tasks) == {"anatomy", "tissue", "disease", "function"}
