"""What a file of numbers may hold, and what is said of any other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from medmtl.inference.numbers import load_numbers
from medmtl.types import ConfigError

NUMBERS = {"a": torch.arange(4.0), "b": torch.ones(2, 3)}


class Harmful:
    def __reduce__(self) -> Any:
        return (os.system, ("touch harmed",))


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_tensors_are_read_as_they_were_saved(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"file.{ending}"
    save_file(NUMBERS, path) if ending == "safetensors" else torch.save(NUMBERS, path)
    found = load_numbers(path)
    assert found.keys() == NUMBERS.keys()
    assert all(torch.equal(found[name], value) for name, value in NUMBERS.items())


def test_a_pickle_that_would_run_code_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({**NUMBERS, "more": Harmful()}, tmp_path / "file.pt")
    with pytest.raises(ConfigError, match=r"^key: .*file.pt: holds more than numbers, and is not read"):
        load_numbers(tmp_path / "file.pt", where="key")
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_a_missing_and_a_damaged_file_are_told_in_a_sentence(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"file.{ending}"
    with pytest.raises(ConfigError, match=f"^{path}: no such file"):
        load_numbers(path)
    save_file(NUMBERS, path) if ending == "safetensors" else torch.save(NUMBERS, path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ConfigError, match="is no whole file of weights"):
        load_numbers(path)
