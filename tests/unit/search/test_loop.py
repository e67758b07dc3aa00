"""A search in one process: failures, stops, queued trials, budgets; each with a real storage."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.study import Study
from optuna.trial import TrialState

from medmtl.search import EvolutionSampler, LineSearch, Number, RoundSampler, Strategy
from medmtl.search._optuna import quiet
from medmtl.search.ledger import MOST_LOSSES, Ledger
from medmtl.search.liveness import BEAT, WORKER, Beat, Watch, Worker
from medmtl.search.loop import RESULT, Assignment, Loop, TakenError, TrialFailedError
from medmtl.search.storage import JOURNAL, open_storage, open_study, without_password
from medmtl.types import ConfigError
from tests.helpers.search_worker import objective, strategies

Work = Callable[[Assignment], tuple[float, Mapping[str, Any]]]


@pytest.fixture(autouse=True)
def quietly() -> Any:
    with quiet():
        yield


def opened(folder: Path, strategy: Strategy | None = None, *, prune: bool = False) -> Study:
    sampler = RoundSampler(strategy or strategies()["evolution"], poll_seconds=0.01)
    return open_study("test", sampler, open_storage(str(folder / JOURNAL)), prune=prune)


def run(study: Study, budget: int, work: Work | None = None, **options: Any) -> list[int]:
    """Keys that were begun, in order."""
    keys: list[int] = []

    def noted(assignment: Assignment) -> tuple[float, Mapping[str, Any]]:
        keys.append(assignment.key)
        return (work or judged)(assignment)

    Loop(study, budget=budget, work=noted, poll_seconds=0.01, **options).run()
    return keys


def judged(assignment: Assignment) -> tuple[float, Mapping[str, Any]]:
    return objective(assignment.params), {"seconds": 1.5}


def configurations(study: Study) -> list[dict[str, Any]]:
    return [dict(attempt.trial.params) for attempt in Ledger.of(study).attempts()]


def test_a_trial_that_fails_is_failed_and_the_search_goes_on(tmp_path: Path) -> None:
    def work(assignment: Assignment) -> tuple[float, Mapping[str, Any]]:
        if assignment.key in (1, 6):
            raise TrialFailedError("loss of task 'a' was not finite at step 3")
        return judged(assignment)

    study = opened(tmp_path)
    assert run(study, 10, work) == list(range(10))
    attempts = Ledger.of(study).attempts()
    assert [a.key for a in attempts if a.state == "failed"] == [1, 6]
    assert attempts[1].message == "loss of task 'a' was not finite at step 3"
    assert sum(a.state == "complete" for a in attempts) == 8
    assert run(opened(tmp_path), 10) == []


class StoppedError(Exception):
    """What Ctrl-C is to a test."""


def test_a_search_that_is_stopped_goes_on_with_the_trial_that_it_was_at(tmp_path: Path) -> None:
    def work(assignment: Assignment) -> tuple[float, Mapping[str, Any]]:
        if assignment.key == 5:
            raise StoppedError
        return judged(assignment)

    whole = optuna.create_study(sampler=RoundSampler(strategies()["evolution"]), direction="maximize")
    run(whole, 9)
    with pytest.raises(StoppedError):
        run(opened(tmp_path), 9, work)
    study = opened(tmp_path)
    assert Ledger.of(study).newest(5).state == "stopped"
    assert run(study, 9) == [5, 6, 7, 8]
    assert configurations(study) == configurations(whole)


def test_more_trials_may_be_asked_for_later(tmp_path: Path) -> None:
    assert run(opened(tmp_path), 3) == [0, 1, 2]
    assert run(opened(tmp_path), 6) == [3, 4, 5]
    whole = optuna.create_study(sampler=RoundSampler(strategies()["evolution"]), direction="maximize")
    run(whole, 6)
    assert configurations(opened(tmp_path)) == configurations(whole)


def test_a_trial_beyond_the_budget_is_kept_for_a_larger_one(tmp_path: Path) -> None:
    """Two processes that ask for the last trial at once get two, of which one has no place."""
    study = opened(tmp_path)
    run(study, 2)
    loop = Loop(study, budget=2, work=judged)
    loop._ask()
    assert Ledger.of(study).newest(2).state == "surplus"
    assert run(study, 4) == [2, 3]
    assert len({repr(params) for params in configurations(study)}) == 4


def test_of_two_repeats_that_were_queued_at_once_one_is_done(tmp_path: Path) -> None:
    study = opened(tmp_path)
    with pytest.raises(StoppedError):
        run(study, 3, lambda assignment: _stop())
    ledger = Ledger.of(study)
    for _ in range(2):
        Loop(study, budget=3, work=judged)._queue_repeats(ledger)
    assert run(study, 3) == [0, 1, 2]
    assert [a.state for a in Ledger.of(study).attempts()] == ["complete"] * 3


def _stop() -> tuple[float, Mapping[str, Any]]:
    raise StoppedError


def test_a_configuration_that_takes_its_process_along_again_and_again_counts_as_failed(
    tmp_path: Path,
) -> None:
    study = opened(tmp_path, LineSearch("t", Number(1, 100), coarse=2, fine=0))
    for _ in range(MOST_LOSSES):
        assert Ledger.of(study).has_waiting() or not Ledger.of(study).originals
        trial = study.ask()
        study.tell(trial, state=TrialState.FAIL)  # as whoever finds it without its process does
        Loop(study, budget=2, work=judged)._queue_repeats(Ledger.of(study))
    assert run(study, 2) == [1]
    found = Ledger.of(study).newest(0)
    assert found.closed
    assert found.message == f"its process died {MOST_LOSSES} times"


def test_a_queued_trial_takes_no_place_and_later_rounds_learn_from_it(tmp_path: Path) -> None:
    strategy = strategies()["evolution"]
    strategy.continues = True
    study, origins = opened(tmp_path, strategy), []

    def work(assignment: Assignment) -> tuple[float, Mapping[str, Any]]:
        origins.append(assignment.origin)
        return judged(assignment)

    study.enqueue_trial({"weight.a": 1.0, "weight.b": 10.0, "weight.c": 50.0, "every.b": 3, "loss": "focal"})
    assert run(study, 8, work) == [-1, *range(8)]
    assert origins == [None] * 5 + [-1] * 4


def test_a_queued_trial_that_names_some_variables_gets_the_others_drawn(tmp_path: Path) -> None:
    study = opened(tmp_path)
    study.enqueue_trial({"loss": "focal"})
    assert run(study, 1) == [-1, 0]
    assert set(study.trials[0].params) == set(strategies()["evolution"].space)


def test_a_queued_trial_that_was_stopped_is_done_again_with_its_values(tmp_path: Path) -> None:
    study = opened(tmp_path)
    study.enqueue_trial({"loss": "focal", "every.b": 7})
    with pytest.raises(StoppedError):
        run(study, 1, lambda assignment: _stop())
    assert run(study, 1) == [-1, 0]
    again = Ledger.of(study).newest(-1)
    assert again.repeats == 1
    assert again.trial.params["every.b"] == 7


def test_results_are_kept_beside_the_objective(tmp_path: Path) -> None:
    study = opened(tmp_path)
    run(study, 1)
    assert study.trials[0].user_attrs[RESULT] == {"seconds": 1.5}
    assert study.best_value == objective(study.best_params)


def test_a_pruned_trial_is_no_parent_and_is_not_repeated(tmp_path: Path) -> None:
    def work(assignment: Assignment) -> tuple[float, Mapping[str, Any]]:
        for epoch in range(3):
            assignment.report(objective(assignment.params), epoch)
        return judged(assignment)

    study = opened(tmp_path, prune=True)
    assert run(study, 16, work) == list(range(16))
    states = [a.state for a in Ledger.of(study).attempts()]
    assert "pruned" in states
    assert states[:4] == ["complete"] * 4
    assert run(study, 16, work) == []


def test_the_second_stage_of_a_line_sees_the_whole_first_one(tmp_path: Path) -> None:
    study = opened(tmp_path, strategies()["line"])
    assert run(study, 99) == list(range(13))
    values = [params["t"] for params in configurations(study)]
    assert all(10 < value < 46.5 for value in values[7:])
    assert abs(math.log10(study.best_params["t"] / 20)) < 0.1


def test_weight_transfer_starts_from_the_best_of_the_rounds_before(tmp_path: Path) -> None:
    strategy = strategies()["evolution"]
    strategy.continues = True
    origins: dict[int, int | None] = {}

    def work(assignment: Assignment) -> tuple[float, Mapping[str, Any]]:
        origins[assignment.key] = assignment.origin
        return judged(assignment)

    study = opened(tmp_path, strategy)
    run(study, 12, work)
    values = [a.tried.value or 0.0 for a in Ledger.of(study).attempts()]
    assert [origins[key] for key in range(4)] == [None] * 4
    assert {origins[key] for key in range(4, 8)} == {values.index(max(values[:4]))}
    assert {origins[key] for key in range(8, 12)} == {values.index(max(values[:8]))}


def test_a_process_that_was_taken_for_dead_leaves_its_trial_to_the_other(tmp_path: Path) -> None:
    study = opened(tmp_path)

    def work(assignment: Assignment) -> tuple[float, Mapping[str, Any]]:
        if assignment.key == 1 and Ledger.of(study).newest(1).repeats == 0:
            study.tell(1, state=TrialState.FAIL)  # by another process, which saw no beat
        return judged(assignment)

    assert run(study, 3, work) == [0, 1, 1, 2]
    assert [a.state for a in Ledger.of(study).attempts()] == ["complete"] * 3


def test_a_beat_notices_that_its_trial_was_taken(tmp_path: Path) -> None:
    study = opened(tmp_path)
    trial = study.ask()
    with Beat(trial, Worker.here(), every_seconds=0.01) as beat:
        while study.trials[0].user_attrs.get(BEAT, 0) < 2:
            assert not beat.taken
        assert study.trials[0].user_attrs[WORKER]["pid"] > 0
        study.tell(0, state=TrialState.FAIL)
        beat._thread.join(timeout=10)
        assert beat.taken
    assignment = Assignment(0, {}, None, trial, beat)
    with pytest.raises(TakenError):
        assignment.check()


def test_a_process_elsewhere_is_dead_when_its_beat_stands_still(tmp_path: Path) -> None:
    study, now = opened(tmp_path), [0.0]
    trial = study.ask()
    elsewhere = Worker("another machine", 1, 1, "t")
    trial.set_user_attr(WORKER, elsewhere.as_attribute())
    watch = Watch(Worker.here(), dead_after_seconds=300, clock=lambda: now[0])
    seen = []
    for second, beat in ((0, 0), (200, 1), (400, 1), (499, 1), (501, 1)):
        now[0] = second
        trial.set_user_attr(BEAT, beat)
        seen.append(watch.is_lost(study.trials[0]))
    assert seen == [False, False, False, False, True]


def test_a_trial_that_its_process_did_not_live_to_claim_is_given_up(tmp_path: Path) -> None:
    study, now = opened(tmp_path), [0.0]
    study.ask()
    watch = Watch(Worker.here(), clock=lambda: now[0])
    assert not watch.is_lost(study.trials[0])
    now[0] = 31.0
    assert watch.is_lost(study.trials[0])


def test_a_process_here_is_dead_when_its_number_is_gone_or_is_another_process_now() -> None:
    here = Worker.here()
    same = here.as_attribute()
    assert not here.knows_dead(same)
    assert here.knows_dead({**same, "pid": 2**22 + 1})
    assert here.knows_dead({**same, "began": same["began"] - 1})
    assert not here.knows_dead({**same, "machine": "another", "pid": 2**22 + 1})
    assert not here.knows_dead({})


def test_the_sampler_alone_serves_any_study_and_a_failed_trial_there_has_failed() -> None:
    space = {"a": Number(0.1, 100, log=True), "b": Number(0.1, 100, log=True)}
    sampler = EvolutionSampler(space, weights=("a", "b"), seed=1)
    study = optuna.create_study(sampler=sampler, direction="maximize")

    def failing(trial: optuna.Trial) -> float:
        ratio = trial.suggest_float("a", 0.1, 100, log=True) / trial.suggest_float("b", 0.1, 100, log=True)
        return math.nan if trial.number == 2 else -abs(math.log10(ratio / 30))

    study.optimize(failing, n_trials=24)
    assert study.best_value > -0.1
    assert study.trials[2].state == TrialState.FAIL


def test_a_process_that_would_wait_for_itself_is_told_so() -> None:
    study = optuna.create_study(
        sampler=RoundSampler(strategies()["evolution"], poll_seconds=0.01, patience_seconds=0.05)
    )
    trials = [study.ask() for _ in range(5)]
    for trial in trials[:4]:
        trial.suggest_float("weight.a", 0.1, 1000, log=True)
    with pytest.raises(ConfigError, match="tell their results before you ask for more"):
        trials[4].suggest_float("weight.a", 0.1, 1000, log=True)


def test_a_variable_that_is_not_searched_is_named() -> None:
    study = optuna.create_study(sampler=RoundSampler(strategies()["line"]))
    with pytest.raises(ConfigError, match="'u' is not searched along; the variables are t"):
        study.ask().suggest_float("u", 0, 1)


@pytest.mark.parametrize(
    ("storage", "says"),
    [
        ("nodb://user:secret@host/name", "cannot be opened"),
        ("postgresql+nodriver://user:secret@host/name", "cannot be opened"),
        ("sqlite:////no/such/folder/a.db", "cannot be opened"),
        ("no/such/folder/journal.log", "is no journal that can be read and written"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_a_sentence_without_the_password(storage: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        open_storage(storage)
    assert "secret" not in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a journal\n")
    with pytest.raises(ConfigError, match="is no journal"):
        open_storage(str(tmp_path / "notes.txt"))
    assert (tmp_path / "notes.txt").read_text() == "not a journal\n"


def test_an_address_is_written_down_without_its_password() -> None:
    assert without_password("postgresql://me:secret@db:5432/x?sslpassword=y") == "postgresql://me@db:5432/x"
    assert without_password("sqlite:///a.db") == "sqlite:///a.db"
    assert without_password(None) == "journal.log"
