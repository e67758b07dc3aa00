"""The tables that a run writes while it trains."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from medmtl.engine.logs import EpochLog, NotFiniteError, StepLog
from medmtl.types import StepOutput
from medmtl.weighting import UnusableLossError, build_weighting


def output(norm: float | None = 1.0, **losses: float) -> StepOutput:
    return StepOutput(
        losses={name: torch.tensor(value) for name, value in losses.items()},
        counts={"a": 0, "b": 0} | dict.fromkeys(losses, 2),
        total=torch.tensor(sum(losses.values())) if losses else None,
        gradient_norm=None if norm is None or not losses else torch.tensor(norm),
    )


def add(log: StepLog, step: int, found: StepOutput) -> None:
    weights = {name: torch.tensor(0.5) for name in found.losses}
    log.add(step, step / 10, found, weights, weights)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_an_absent_task_has_blank_cells_and_a_count_of_0(tmp_path: Path) -> None:
    log = StepLog(tmp_path / "w.csv", ["a", "b"])
    add(log, 0, output(a=1.5))
    log.flush()
    [row] = rows_of(tmp_path / "w.csv")
    assert [row[f"a.{part}"] for part in ("loss", "raw", "weight", "count")] == ["1.5", "0.5", "0.5", "2"]
    assert [row[f"b.{part}"] for part in ("loss", "raw", "weight", "count")] == ["", "", "", "0"]


def test_a_step_without_any_label_is_a_row_of_blanks(tmp_path: Path) -> None:
    log = StepLog(tmp_path / "w.csv", ["a", "b"])
    for step, found in enumerate((output(), output(a=1.0, b=2.0), output())):
        add(log, step, found)
    log.flush()
    log.flush()
    assert [row["total"] for row in rows_of(tmp_path / "w.csv")] == ["", "3", ""]
    assert log.means() == {"loss.a": 1.0, "loss.b": 2.0, "total": 3.0}
    assert log.means() == {}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_the_first_loss_that_is_not_finite_is_named_and_its_row_is_the_last(
    tmp_path: Path, value: float
) -> None:
    log = StepLog(tmp_path / "w.csv", ["a", "b"])
    for step, found in enumerate((output(a=1.0, b=1.0), output(a=1.0, b=value), output(a=value, b=value))):
        add(log, step, found)
    with pytest.raises(NotFiniteError, match=r"the loss of task 'b' was not finite at step 1; lower"):
        log.flush()
    assert [row["step"] for row in rows_of(tmp_path / "w.csv")] == ["0", "1"]


def test_a_gradient_that_is_not_finite_is_told_though_the_losses_are(tmp_path: Path) -> None:
    log = StepLog(tmp_path / "w.csv", ["a", "b"])
    add(log, 0, output(norm=float("inf"), b=1.0))
    with pytest.raises(NotFiniteError, match="the gradient of tasks b was not finite at step 0"):
        log.flush()


def test_an_objection_of_the_weighting_stops_the_run_and_names_task_and_step(tmp_path: Path) -> None:
    log = StepLog(tmp_path / "w.csv", ["a", "b"], objection=build_weighting("uw-o", ["a", "b"]).objection)
    for step, found in enumerate((output(a=1.0, b=1.0), output(a=1.0, b=-0.5), output(a=1.0, b=1.0))):
        add(log, step, found)
    with pytest.raises(
        UnusableLossError, match=r"the loss of task 'b' was negative \(-0.5\), .* at step 1; lower"
    ):
        log.flush()
    assert [row["step"] for row in rows_of(tmp_path / "w.csv")] == ["0", "1"]


def test_a_policy_that_deals_with_bad_losses_lets_the_run_go_on_and_they_stay_visible(tmp_path: Path) -> None:
    weighting = build_weighting("ew", ["a", "b"], on_bad_loss="drop-task")
    log = StepLog(tmp_path / "w.csv", ["a", "b"], objection=weighting.objection)
    found = output(a=1.0, b=float("nan"))
    found.total = torch.tensor(1.0)
    log.add(0, 0.1, found, {"a": torch.tensor(1.0)}, {"a": torch.tensor(1.0)})
    log.flush()
    [row] = rows_of(tmp_path / "w.csv")
    assert [row[f"b.{part}"] for part in ("loss", "raw", "weight", "count")] == ["", "", "", "2"]
    assert log.means() == {"loss.a": 1.0, "total": 1.0}


def compared(norms: dict[str, float], cosine: float, norm: float = 1.0) -> StepOutput:
    found = output(norm, **dict.fromkeys(norms, 1.0))
    found.compared = tuple(norms)
    found.task_norms = torch.tensor(list(norms.values()))
    found.task_cosines = torch.full((len(norms), len(norms)), cosine).fill_diagonal_(1)
    return found


def test_norms_and_cosines_stand_behind_and_are_blank_where_none_were_taken(tmp_path: Path) -> None:
    log = StepLog(tmp_path / "w.csv", ["a", "b", "c"], compares=True)
    add(log, 0, compared({"c": 2.0, "a": 3.0}, -0.5))
    add(log, 1, output(a=1.0, b=1.0, c=1.0))
    add(log, 2, output())
    add(log, 3, compared({"b": 4.0}, 1.0))
    log.flush()
    rows = rows_of(tmp_path / "w.csv")
    columns = [
        "a.gradient_norm",
        "b.gradient_norm",
        "c.gradient_norm",
        "cosine.a.b",
        "cosine.a.c",
        "cosine.b.c",
    ]
    assert list(rows[0])[-6:] == columns
    assert [[row[c] for c in columns] for row in rows] == [
        ["3", "", "2", "", "-0.5", ""],
        [""] * 6,
        [""] * 6,
        ["", "4", "", "", "", ""],
    ]


def test_the_task_whose_gradient_broke_the_step_is_named_where_gradients_were_compared(
    tmp_path: Path,
) -> None:
    log = StepLog(tmp_path / "w.csv", ["a", "b", "c"], compares=True)
    add(log, 0, compared({"a": 1.0, "b": float("inf"), "c": 2.0}, 0.0, norm=float("nan")))
    with pytest.raises(NotFiniteError, match="the gradient of tasks b was not finite at step 0"):
        log.flush()


def test_a_step_that_a_gradient_scaler_skips_is_no_error(tmp_path: Path) -> None:
    log = StepLog(tmp_path / "w.csv", ["a", "b"])
    found = output(norm=float("inf"), a=1.0)
    found.may_overflow = True
    add(log, 0, found)
    log.flush()
    assert rows_of(tmp_path / "w.csv")[0]["gradient_norm"] == "inf"


def test_a_resumed_log_keeps_the_rows_before_its_first_step_only(tmp_path: Path) -> None:
    log = StepLog(tmp_path / "w.csv", ["a", "b"])
    for step in range(5):
        add(log, step, output(a=float(step)))
    log.flush()
    again = StepLog(tmp_path / "w.csv", ["a", "b"], first_step=3)
    assert [row["step"] for row in rows_of(tmp_path / "w.csv")] == ["0", "1", "2"]
    add(again, 3, output(a=9.0))
    again.flush()
    assert [row["a.loss"] for row in rows_of(tmp_path / "w.csv")] == ["0", "1", "2", "9"]


def test_a_row_cut_short_by_a_crash_is_dropped_on_resume(tmp_path: Path) -> None:
    log = StepLog(tmp_path / "w.csv", ["a", "b"])
    add(log, 0, output(a=1.0))
    log.flush()
    with (tmp_path / "w.csv").open("a") as stream:
        stream.write("1,0.2,0.")
    StepLog(tmp_path / "w.csv", ["a", "b"], first_step=5)
    assert [row["step"] for row in rows_of(tmp_path / "w.csv")] == ["0"]


def test_columns_of_the_epoch_table_may_appear_later_and_old_rows_stay_blank(tmp_path: Path) -> None:
    log = EpochLog(tmp_path / "m.csv")
    log.add({"epoch": 1, "step": 10, "val.score": float("nan")})
    log.add({"epoch": 2, "step": 20, "val.score": 0.5, "val.a.dice": 0.123456789})
    assert [row["val.a.dice"] for row in rows_of(tmp_path / "m.csv")] == ["", "0.123457"]
    again = EpochLog(tmp_path / "m.csv", first_step=10)
    again.add({"epoch": 2, "step": 20, "val.score": 0.6})
    cells = [(row["epoch"], row["val.score"]) for row in rows_of(tmp_path / "m.csv")]
    assert cells == [("1", ""), ("2", "0.6")]
