"""The Ignite wrapper: zero samples, batches without labels, and the same value as the pure function."""

import subprocess
import sys
from pathlib import Path

import ignite.distributed as idist
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from ignite.exceptions import NotComputableError

from medmtl.metrics import bland_altman, macro_auc, mean_absolute_error
from medmtl.metrics.ignite import CaseMetric


def test_an_epoch_without_a_case_is_not_computable() -> None:
    metric = CaseMetric(mean_absolute_error)
    metric.update(None)
    metric.update((torch.empty(0), torch.empty(0)))
    with pytest.raises(NotComputableError, match="saw no case"):
        metric.compute()


def test_a_batch_whose_arrays_differ_in_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"found \[2, 3\]"):
        CaseMetric(mean_absolute_error).update((torch.zeros(2), torch.zeros(3)))


def test_the_value_is_that_of_the_pure_function_over_all_batches() -> None:
    generator = np.random.default_rng(0)
    method, reference = generator.normal(size=(2, 11)).astype(np.float32)
    batches = [slice(0, 4), slice(4, 5), slice(5, 11)]
    engine = Engine(lambda _, rows: (torch.from_numpy(method[rows]), torch.from_numpy(reference[rows])))
    CaseMetric(lambda a, b: bland_altman(a, b).sd).attach(engine, "sd")
    engine.run(batches)
    assert engine.state.metrics["sd"] == pytest.approx(bland_altman(method, reference).sd)


def test_arrays_may_have_more_axes_and_hold_bfloat16() -> None:
    metric = CaseMetric(lambda p, y: macro_auc(p, np.array(["a", "b"])[y], ("a", "b")))
    metric.update((torch.tensor([[0.75, 0.25]], dtype=torch.bfloat16), torch.tensor([0])))
    metric.update((torch.tensor([[0.5, 0.5]], dtype=torch.bfloat16), torch.tensor([1])))
    assert metric.compute() == 1.0


def test_reset_forgets_the_cases() -> None:
    metric = CaseMetric(mean_absolute_error)
    metric.update((torch.tensor([1.0]), torch.tensor([9.0])))
    metric.reset()
    metric.update((torch.tensor([1.0]), torch.tensor([2.0])))
    assert metric.compute() == 1.0


def test_the_pure_metrics_load_neither_torch_nor_ignite_nor_scikit_learn() -> None:
    code = (
        "import sys, medmtl.metrics; print([m for m in ('torch', 'ignite', 'sklearn') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def _value_of_rank(rank: int, path: str) -> None:
    metric = CaseMetric(mean_absolute_error)
    if rank == 0:
        metric.update((torch.tensor([1.0, 2.0, 3.0]), torch.zeros(3)))
        metric.update((torch.tensor([6.0]), torch.zeros(1)))
    else:
        metric.update(None)
    Path(path, f"{rank}.txt").write_text(str(metric.compute()))


def test_ranks_share_their_cases_and_one_may_have_none(tmp_path: Path) -> None:
    idist.spawn("gloo", _value_of_rank, args=(str(tmp_path),), nproc_per_node=2, start_method="fork")
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in (0, 1)] == ["3.0", "3.0"]
