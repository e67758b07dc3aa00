"""Every reproduction runs from end to end, in small, and writes what its docs page reads."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import gradnorm_static
import pytest
from slice_nets import make_slices

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
EXTENSIONS = BENCHMARKS.parent / "docs" / "_ext"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs a script's main with arguments; gives what it wrote."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def start(name: str, *arguments: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", "--quick", "--device", "cpu", *arguments])
        importlib.import_module(name).main()
        (written,) = tmp_path.glob("*-quick.json")
        return dict(json.loads(written.read_text()))

    return start


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The docs' extension that turns results into tables."""
    monkeypatch.syspath_prepend(str(EXTENSIONS))
    return importlib.import_module("paper_tables")


def test_gradnorms_toy_trains_every_arm_and_shows_it(run: Any, tables: Any) -> None:
    found = run("gradnorm_toy", "--problems", "2 tasks")
    arms = found["2 tasks"]["arms"]
    assert {"ew", "uw", "uw-o", "balanced", "gradnorm, alpha 0.12", "mgda", "nash-mtl"} <= set(arms)
    for name, entry in arms.items():
        assert 0.5 < entry["mean risk"]["mean"] < 2, name
    shown = tables.toy(found)
    assert all(name in shown for name in arms)
    assert "share of the task with sigma 1" in shown


def test_random_static_weights_are_set_against_gradnorms(run: Any, tables: Any, tmp_path: Path) -> None:
    slices = tmp_path / "slices.npz"
    make_slices(slices, cases=4)
    found = run("gradnorm_static", "--slices", str(slices))
    for entry in found["figure_4"].values():
        assert sum(entry["weights, sum 3"]) == pytest.approx(3, rel=1e-3)
        assert len(entry["distance"]) == len(entry["change_percent"]) == 6
    assert "rank correlation" in tables.static(found)


def test_the_toys_train_every_method_with_missing_labels(run: Any) -> None:
    found = run("weighting_toys", "twelve")["problems"]["twelve"]
    assert all(row["mean risk"] > 0 for name, row in found.items() if name != "single task")
    assert all(risk > 0 for risk in found["single task"]["risks"].values())


def test_a_script_stops_when_its_minutes_are_over(run: Any) -> None:
    found = run("gradnorm_toy", "--problems", "2 tasks", "--steps", "1000000", "--minutes", "0")
    assert found["2 tasks"]["steps"] == 1


def test_equal_ranks_correlate_fully() -> None:
    import torch

    rising = torch.arange(5.0)
    assert gradnorm_static.spearman(rising, rising.exp()) == pytest.approx(1)
    assert gradnorm_static.spearman(rising, -rising) == pytest.approx(-1)
