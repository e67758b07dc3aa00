"""The reproduction on Multi-MNIST runs from end to end on the real digits, in small."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_both_tables_have_every_arm_and_part(
    realdata: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = realdata / "mnist"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.syspath_prepend(str(BENCHMARKS / "papers"))
    monkeypatch.setattr(sys, "argv", ["multi_mnist.py", "--quick", "--device", "cpu", "--data", str(folder)])
    importlib.import_module("multi_mnist").main()
    found = json.loads((tmp_path / "papers-multi-mnist-quick.json").read_text())
    for table, parts in (("table 1", {"100%", "25%"}), ("table 2", {"100%", "25%", "10%"})):
        arms = found[table]["arms"]
        assert {"single: left", "ew", "dwa", "uw", "uw-revised", "balanced", "pcgrad"} <= set(arms)
        assert all(set(entry) == parts for entry in arms.values())
        others = [entry["100%"] for name, entry in arms.items() if not name.startswith("single")]
        assert all(0 <= entry["left"]["best"]["mean"] <= 100 for entry in others)
