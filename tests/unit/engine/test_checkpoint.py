"""Checkpoints: what is saved comes back as it was, a damaged one is told, and nothing is ever executed."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import medmtl
from medmtl.engine.checkpoint import load_tree, random_state, restore_random_state, save_tree
from medmtl.strict import StrictLoader
from medmtl.types import ConfigError

LEAVES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text()
TREES = st.dictionaries(
    st.text(max_size=5) | st.integers(0, 99),
    st.recursive(
        LEAVES,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(max_size=5) | st.integers(0, 99), inner, max_size=3)
        ),
        max_leaves=8,
    ),
    max_size=4,
)


@settings(max_examples=50, deadline=None)
@given(tree=TREES)
def test_any_tree_comes_back_equal_with_the_types_of_its_keys(
    tree: dict[Any, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("tree") / "t.safetensors"
    save_tree(path, tree)
    found = load_tree(path)
    assert found == tree
    assert [type(key) for key in found] == [type(key) for key in tree]


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool]
)
def test_tensors_of_every_type_come_back_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = (torch.randn(3, 4) * 50).to(dtype).T  # not contiguous
    save_tree(tmp_path / "t.safetensors", {"a": [tensor, {"b": torch.tensor(1, dtype=dtype)}]})
    found = load_tree(tmp_path / "t.safetensors")
    assert found["a"][0].dtype == dtype
    assert torch.equal(found["a"][0], tensor)
    assert found["a"][1]["b"].shape == ()


def test_infinite_numbers_come_back(tmp_path: Path) -> None:
    save_tree(tmp_path / "t.safetensors", {"best": -math.inf, "none": math.nan})
    found = load_tree(tmp_path / "t.safetensors")
    assert found["best"] == -math.inf
    assert math.isnan(found["none"])


def test_the_state_of_adamw_goes_on_from_a_checkpoint_with_its_integer_keys(tmp_path: Path) -> None:
    def made() -> tuple[torch.nn.Linear, torch.optim.AdamW]:
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 2)
        return layer, torch.optim.AdamW(layer.parameters(), lr=0.1)

    def walk(layer: torch.nn.Linear, optimizer: torch.optim.AdamW, steps: range) -> None:
        for step in steps:
            optimizer.zero_grad()
            (layer(torch.full((1, 3), float(step))) ** 2).sum().backward()
            optimizer.step()

    whole, whole_optimizer = made()
    walk(whole, whole_optimizer, range(6))
    first, first_optimizer = made()
    walk(first, first_optimizer, range(3))
    save_tree(tmp_path / "c", {"network": first.state_dict(), "optimizer": first_optimizer.state_dict()})
    second, second_optimizer = made()
    found = load_tree(tmp_path / "c")
    assert list(found["optimizer"]["state"]) == [0, 1]
    second.load_state_dict(found["network"])
    second_optimizer.load_state_dict(found["optimizer"])
    walk(second, second_optimizer, range(3, 6))
    assert torch.equal(whole.weight, second.weight)
    assert torch.equal(whole.bias, second.bias)


def test_the_random_state_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    save_tree(tmp_path / "c", random_state())
    expected = torch.rand(4)
    torch.rand(100)
    restore_random_state(load_tree(tmp_path / "c"))
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_checkpoint_is_one_clear_error(tmp_path: Path, share: float) -> None:
    path = tmp_path / "last.safetensors"
    save_tree(path, {"network": {"w": torch.zeros(100)}, "epoch": 3})
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ConfigError, match=r"last.safetensors: is not a whole checkpoint .* start anew"):
        load_tree(path)


def test_a_missing_checkpoint_and_another_files_tensors_are_refused_alike(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(2)}, tmp_path / "other.safetensors")
    save_file({"w": torch.zeros(2)}, tmp_path / "damaged.safetensors", metadata={"tree": '{"odd": 1}'})
    for name in ("other", "missing", "damaged"):
        with pytest.raises(ConfigError, match="is not a whole checkpoint"):
            load_tree(tmp_path / f"{name}.safetensors")


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    save_tree(path, {"epoch": 1})
    with pytest.raises(AssertionError, match="cannot save a object"):
        save_tree(path, {"epoch": object()})
    assert load_tree(path) == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.safetensors"]


def test_nothing_in_medmtl_pickles_or_evaluates() -> None:
    forbidden = re.compile(
        r"torch\.load\((?!.*weights_only=True)|torch\.save\b|\bimport pickle|\bpickle\.|\bshelve\b"
        r"|(?<!\.)\bjoblib\b"
        r"|(?<![\w.])(eval|exec)\("
        r"|yaml\.(unsafe_load|full_load)\(|yaml\.load\((?!text, Loader=StrictLoader)"
        r"|allow_pickle=True"
    )
    root = Path(medmtl.__file__).parent
    files = sorted(root.rglob("*.py"))
    found = [
        f"{path.relative_to(root)}: {line.strip()}"
        for path in files
        for line in path.read_text().splitlines()
        if forbidden.search(line)
    ]
    assert len(files) > 50
    assert issubclass(StrictLoader, yaml.SafeLoader)
    assert found == []
