"""What trials are judged by: one metric per task, its direction right, a geometric mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from medmtl.data.dataset import open_dataset
from medmtl.engine import Job
from medmtl.search.objective import LEAST, NoValueError, Objective, choose_objective, kept_row
from medmtl.types import ConfigError
from tests.helpers.study import make_job, sections, write_study

ROW = {"epoch": "1", "val.anatomy.score": "0.9", "val.anatomy.dice": "0.9", "val.function.mae": "4.0"}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("study")
    return make_job(write_study(folder / "dataset"), folder / "run", sections("anatomy", "disease"))


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (["anatomy"], "write task=metric"),
        (["anatmy=dice"], "no task 'anatmy'; did you mean 'anatomy'"),
        (["anatomy=dice", "anatomy=score"], "given twice"),
        (["anatomy=bias"], "no direction in which it gets better"),
        (["anatomy=none", "disease=none"], "no task is left"),
    ],
)
def test_an_objective_that_is_none_is_refused_in_a_sentence(job: Job, asked: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        choose_objective(job, asked)


def test_without_validation_cases_there_is_nothing_to_judge_by(tmp_path: Path) -> None:
    dataset = write_study(tmp_path / "dataset", splits=("train", "train", "test"))
    with pytest.raises(ConfigError, match="no case has split = val"):
        choose_objective(make_job(dataset, tmp_path / "run", sections("anatomy")))


def test_a_task_without_validation_labels_is_left_out_and_told_or_refused_where_it_was_asked_for(
    tmp_path: Path,
) -> None:
    dataset = write_study(tmp_path / "dataset", blank={name: ["disease"] for name in ("c5", "c6")})
    job = make_job(open_dataset(dataset), tmp_path / "run", sections("anatomy", "disease"))
    objective, notes = choose_objective(job)
    assert dict(objective.metrics) == {"anatomy": "score"}
    assert notes == ["task 'disease' takes no part in the objective: no validation case is labelled"]
    with pytest.raises(ConfigError, match="no validation case is labelled for task 'disease'"):
        choose_objective(job, ["disease=accuracy"])


def test_a_metric_that_no_training_has_is_an_error_and_a_blank_one_fails_the_trial() -> None:
    with pytest.raises(ConfigError, match="has no 'hd95' of task 'anatomy'; known are dice, score"):
        Objective({"anatomy": "hd95"}).values(ROW)
    for cell in ("", "nan", "inf"):
        with pytest.raises(NoValueError, match="task 'anatomy' has no value of 'score'"):
            Objective({"anatomy": "score"}).values({"val.anatomy.score": cell})


def test_every_task_takes_part_with_its_score_by_default(job: Job) -> None:
    assert choose_objective(job) == (Objective({"anatomy": "score", "disease": "score"}), [])
    assert dict(choose_objective(job, ["disease=none"])[0].metrics) == {"anatomy": "score"}


def test_it_is_the_geometric_mean() -> None:
    objective = Objective({"a": "score", "b": "dice"})
    assert objective({"a.score": 0.9, "b.dice": 0.4}) == pytest.approx(0.6)


def test_a_metric_that_is_better_when_lower_counts_inversely_and_its_unit_does_not_matter() -> None:
    objective = Objective({"a": "score", "f": "mae.LV_EF"})
    better, worse = {"a.score": 0.8, "f.mae.LV_EF": 3.0}, {"a.score": 0.8, "f.mae.LV_EF": 6.0}
    assert objective(better) == pytest.approx(2**0.5 * objective(worse))
    scaled = [
        objective({**values, "f.mae.LV_EF": 1000 * values["f.mae.LV_EF"]}) for values in (better, worse)
    ]
    assert scaled[0] == pytest.approx(2**0.5 * scaled[1])


def test_a_task_at_zero_does_not_hide_what_the_others_do() -> None:
    objective = Objective({"a": "score", "b": "score"})
    assert objective({"a.score": 0.0, "b.score": 0.9}) > objective({"a.score": 0.0, "b.score": 0.5}) > 0
    assert objective({"a.score": 0.0}) == objective({"a.score": LEAST})


@pytest.mark.parametrize(("kept", "epoch"), [("epoch 2", "2"), ("last", "3")])
def test_the_row_is_that_of_the_weights_that_were_kept(tmp_path: Path, kept: str, epoch: str) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,val.a.score\n1,0.1\n2,0.9\n3,0.5\n")
    assert kept_row(tmp_path, kept)["epoch"] == epoch
