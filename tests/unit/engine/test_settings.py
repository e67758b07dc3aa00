"""The schedule, precision, devices and threads that a run is asked for."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from medmtl.data.dataset import Dataset
from medmtl.engine.evaluator import overall_score, validate
from medmtl.engine.threads import choose_threads
from medmtl.engine.trainer import autocast_dtype, learning_rate_factor
from medmtl.inference.device import choose_device, fast_dtype
from medmtl.inference.predictor import Context
from medmtl.types import ConfigError
from tests.helpers.study import SECTIONS, make_job, make_ready, sections


def test_the_learning_rate_rises_in_a_line_and_falls_in_half_a_cosine() -> None:
    factors = [learning_rate_factor(step, 10, 110) for step in range(110)]
    assert factors[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert factors[10] == 1.0
    assert factors[60] == pytest.approx(0.5)
    assert all(b < a for a, b in pairwise(factors[10:]))
    assert 0 < factors[-1] < 0.001


def test_a_warm_up_longer_than_the_run_and_none_at_all_are_fine() -> None:
    assert learning_rate_factor(3, 50, 10) == pytest.approx(0.08)
    assert learning_rate_factor(0, 0, 10) == 1.0


def test_mixed_precision_is_bfloat16_where_it_is_fast_and_never_where_it_is_slow() -> None:
    cpu = torch.device("cpu")
    assert autocast_dtype("float32", cpu) is None
    assert autocast_dtype("auto", cpu) == fast_dtype(cpu)
    if fast_dtype(cpu) is None:
        with pytest.raises(ConfigError, match="this CPU has no fast bfloat16"):
            autocast_dtype("bfloat16", cpu)
    else:
        assert autocast_dtype("bfloat16", cpu) == torch.bfloat16


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:x"])
def test_a_gpu_that_is_not_there_is_told(name: str) -> None:
    assert choose_device("auto").type == "cpu"
    with pytest.raises(ConfigError, match=f"device: '{name}' was asked for, but PyTorch sees 0 GPUs here"):
        choose_device(name)


def test_threads_are_as_asked_or_timed_and_leave_no_gradient(study: Dataset) -> None:
    network = make_ready(make_job(study, study.root / "run", sections("anatomy"))).model.network
    before = torch.get_num_threads()
    try:
        assert choose_threads(network, (2, 1, 16, 16, 4), 1) == 1
        assert torch.get_num_threads() == 1
        assert choose_threads(network, (2, 1, 16, 16, 4)) >= 1
    finally:
        torch.set_num_threads(before)
    assert all(p.grad is None for p in network.parameters())


def test_validation_judges_every_labelled_task_and_averages_their_scores(study: Dataset) -> None:
    ready = make_ready(make_job(study, study.root / "run"))
    model = ready.model
    context = Context(model.network.eval(), model.tasks, model.preparation, torch.device("cpu"))
    found = validate(context, ready.val)
    assert set(found) == set(SECTIONS)
    scores = [metrics["score"] for metrics in found.values()]
    assert overall_score(found) == pytest.approx(sum(scores) / len(scores))
    assert validate(context, ready.val) == found
    assert validate(context, []) == {}
    assert math.isnan(overall_score({}))
