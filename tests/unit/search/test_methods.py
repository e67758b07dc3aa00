"""The three searches over a config: what they set in it, what they refuse, and whose folder it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from medmtl.config import job_of, parse_config, with_values
from medmtl.data.dataset import Dataset, open_dataset
from medmtl.engine import Job
from medmtl.search import Method, build_method
from medmtl.search.folder import check_folder, describe, join_folder
from medmtl.search.objective import Objective
from medmtl.types import ConfigError, OutputError
from tests.helpers.study import sections, write_study

TWELVE = {f"anatomy{i}": {"type": "segmentation", "target": "anatomy"} for i in range(12)}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(write_study(tmp_path_factory.mktemp("study") / "dataset"))


def maker(dataset: Dataset, tasks: Mapping[str, Any] | None = None, **parts: Any) -> Any:
    config = parse_config({"tasks": tasks or sections("anatomy", "disease"), "device": "cpu", **parts})

    def make_job(changes: Mapping[str, Any], folder: Path) -> Job:
        return job_of(with_values(config, changes), dataset, folder)

    return make_job


def build(dataset: Dataset, name: str, tasks: Mapping[str, Any] | None = None, **options: Any) -> Method:
    return build_method(name, maker(dataset, tasks), **options)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("genetic", {}, "no method of searching; known are evolution, grid, line"),
        ("line", {"resolution": 5}, "--resolution: is for grid; --method is line"),
        ("grid", {"transfer_epochs": 5}, "--transfer-epochs: is for evolution; --method is grid"),
        ("line", {"seed": 5}, "--seed: is for grid and evolution"),
        ("line", {"key": "training.learning_rate"}, "give its range with --low and --high"),
        ("line", {"key": "training.lerning_rate", "low": 1, "high": 2}, "did you mean 'learning_rate'"),
        ("line", {"low": 0.0}, None),
        ("line", {"low": 5.0, "high": 5.0}, "is empty"),
        ("grid", {"resolution": 1}, "no point with 2 positive weights"),
        ("evolution", {"ranges": ["anatmy=1..10"]}, "write task=LOW..HIGH; did you mean 'anatomy'"),
        ("evolution", {"ranges": ["anatomy=0..10"]}, "reaches 0"),
        ("evolution", {"vary": ["training.epochs=1..9"]}, "so it is not searched along"),
        ("evolution", {"transfer_epochs": 99}, "not between 1 and training.epochs"),
        ("evolution", {"initial": 0}, "1 or more"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_a_sentence(
    dataset: Dataset, name: str, options: dict[str, Any], says: str | None
) -> None:
    if says is None:
        assert build(dataset, name, **options).strategy.space["weighting.temperature"].low == 0
        return
    with pytest.raises(ConfigError, match=says):
        build(dataset, name, **options)


@pytest.mark.parametrize("name", ["grid", "evolution"])
def test_one_task_only_has_no_weights_to_search(dataset: Dataset, name: str) -> None:
    with pytest.raises(ConfigError, match="one task only"):
        build(dataset, name, sections("anatomy"))


def test_a_line_goes_along_the_temperature_of_uw_so(dataset: Dataset) -> None:
    method = build(dataset, "line")
    assert method.says == (
        "13 trainings: 7 values of weighting.temperature from 1 to 100, then 6 around the best"
    )
    values = [params["weighting.temperature"] for params in method.strategy.propose(0, [])]
    assert (values[0], values[3], values[-1]) == (1.0, 10.0, 100.0)
    assert method.changes({"weighting.temperature": 10.0}) == {
        "weighting": {"type": "uw-so", "temperature": 10.0}
    }


def test_a_line_keeps_the_other_options_of_a_uw_so(dataset: Dataset) -> None:
    own = {"type": "uw-so", "effective_tasks": 1.5, "floor": 0.1, "every": {"disease": 2}}
    method = build_method("line", maker(dataset, weighting=own))
    assert method.changes({"weighting.temperature": 3.0})["weighting"] == {
        "type": "uw-so", "floor": 0.1, "every": {"disease": 2}, "temperature": 3.0,
    }  # fmt: skip


def test_a_line_goes_along_any_number_and_sees_that_it_is_whole(dataset: Dataset) -> None:
    rate = build(dataset, "line", key="training.learning_rate", low=1e-4, high=1e-2, coarse=3)
    assert [p["training.learning_rate"] for p in rate.strategy.propose(0, [])] == [1e-4, 1e-3, 1e-2]
    batch = build(dataset, "line", key="training.batch_size", low=2, high=8, coarse=3)
    assert [p["training.batch_size"] for p in batch.strategy.propose(0, [])] == [2, 5, 8]
    make_job = maker(dataset)
    assert make_job(batch.changes({"training.batch_size": 5}), Path("x")).training.batch_size == 5


def test_a_grid_says_how_many_trainings_it_is_before_any(dataset: Dataset) -> None:
    method = build(dataset, "grid", sections("anatomy", "disease", "function"))
    assert method.trials == 36
    assert method.says == "36 trainings: 3 weights in steps of 1/10 that sum to 1"
    assert method.changes(method.strategy.propose(0, [])[0])["weighting"]["type"] == "scalarization"


def test_with_many_tasks_points_are_drawn_and_the_grids_size_is_told(dataset: Dataset) -> None:
    method = build(dataset, "grid", TWELVE, resolution=20, points=50)
    assert method.trials == 50
    assert "50 trainings: points drawn evenly" in method.says
    assert "12 tasks in steps of 1/20 would be 75582" in method.says


def test_an_evolution_has_the_papers_ranges_and_starts_from_equal_weights(dataset: Dataset) -> None:
    """Leang et al. 2020: weights 0.1 to 1000 and 0.1 to 100, update frequencies 1 to 10."""
    method = build(dataset, "evolution")
    assert method.settings["space"] == {
        "weight.anatomy": [0.1, 1000.0],
        "weight.disease": [0.1, 100.0],
        "every.anatomy": [1, 10],
        "every.disease": [1, 10],
    }
    assert method.changes(method.strategy.propose(0, [])[0])["weighting"] == {
        "type": "scalarization",
        "weights": {"anatomy": 0.5, "disease": 0.5},
        "every": {"anatomy": 1, "disease": 1},
    }
    assert method.strategy.continues
    assert method.transfer_epochs == 5


def test_an_evolution_varies_other_keys_and_begins_with_the_configs_own(dataset: Dataset) -> None:
    vary = ["training.learning_rate=1e-4..1e-2", "tasks.anatomy.loss=dice_ce,dice_focal"]
    method = build(dataset, "evolution", vary=vary, asynchronous=False, transfer=False)
    first = method.strategy.propose(0, [])[0]
    changes = method.changes(first)
    assert changes["training.learning_rate"] == 1e-3
    assert changes["tasks.anatomy.loss"] == "dice_ce"
    assert "every" not in changes["weighting"]
    assert not method.strategy.continues
    assert maker(dataset)(changes, Path("x")).tasks["anatomy"]["loss"] == "dice_ce"


def description(dataset: Dataset, name: str = "line", **options: Any) -> dict[str, Any]:
    make_job = maker(dataset, **options.pop("config", {}))
    method = build_method(name, make_job, **options)
    return describe(make_job({}, Path("x")), method, Objective({"anatomy": "score"}), None, prune=False)


def test_a_folder_of_something_else_is_left_alone(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="exists and is not a search"):
        join_folder(tmp_path, description(dataset))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("text", ["", "medmtl_search: 99\n", "{", "[1]"])
def test_a_description_that_cannot_be_read_is_refused(dataset: Dataset, tmp_path: Path, text: str) -> None:
    (tmp_path / "search.yaml").write_text(text)
    with pytest.raises(OutputError, match=r"search\.yaml"):
        check_folder(tmp_path, description(dataset))


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("grid", {}, "method was 'line' and is now 'grid'"),
        ("line", {"coarse": 5}, "coarse was 7 and is now 5"),
        ("line", {"high": 50.0}, "high was 100.0 and is now 50.0"),
        ("line", {"config": {"seed": 3}}, "seed was 0 and is now 3"),
        ("line", {"config": {"training": {"epochs": 3}}}, "training.epochs was 20 and is now 3"),
    ],
)
def test_another_search_in_a_folder_is_refused_saying_what_differs(
    dataset: Dataset, tmp_path: Path, name: str, options: dict[str, Any], says: str
) -> None:
    join_folder(tmp_path, description(dataset))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ConfigError, match=says):
        join_folder(tmp_path, description(dataset, name, **options))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_processes_that_join_a_search_share_its_study(dataset: Dataset, tmp_path: Path) -> None:
    one = join_folder(tmp_path / "search", description(dataset))
    assert one.startswith("medmtl-")
    assert join_folder(tmp_path / "search", description(dataset)) == one
    other = {"device": "auto", "training": {"threads": 2}}
    assert join_folder(tmp_path / "search", description(dataset, config=other)) == one
