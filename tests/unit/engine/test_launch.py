"""What torchrun's environment means for a process, and what ranks exchange."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from medmtl.engine.checkpoint import dump_tree, parse_tree
from medmtl.engine.exchange import check_alike, from_first, gathered
from medmtl.engine.launch import device_of_rank, launched, process_group, ranks_here, speaks
from medmtl.engine.together import is_consequence
from medmtl.types import ConfigError


@pytest.fixture
def second_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    for name, value in {**said, "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("second_of_two")
def test_fewer_gpus_than_ranks_are_refused_with_what_to_do() -> None:
    if torch.cuda.device_count() >= 2:
        pytest.skip("there is a GPU for each rank")
    with pytest.raises(ConfigError, match="2 ranks on this machine need as many GPUs, but PyTorch sees"):
        device_of_rank("cuda")


@pytest.mark.usefixtures("second_of_two")
def test_one_gpu_for_several_ranks_is_refused() -> None:
    with pytest.raises(ConfigError, match="'cuda:0' is one GPU, but there are 2 ranks"):
        device_of_rank("cuda:0")


@pytest.mark.usefixtures("second_of_two")
def test_a_second_rank_is_silent_and_may_run_on_the_cpu() -> None:
    assert launched()
    assert not speaks()
    assert ranks_here() == 2
    assert device_of_rank("cpu") == torch.device("cpu")


def test_without_torchrun_nothing_is_set_up_and_nothing_travels() -> None:
    assert not launched()
    assert speaks()
    assert ranks_here() == 1
    with process_group("cpu"):
        assert not dist.is_initialized()
    tree = {"a": torch.ones(2)}
    assert from_first(lambda: tree) is tree
    assert gathered(tree) == [tree]
    check_alike({"config": "x"})


def test_a_tree_survives_the_way_between_ranks() -> None:
    tree = {
        "dense": {"x": torch.arange(6, dtype=torch.uint8).reshape(2, 3)},
        "values": [1, 0.1, None, "ä", True],
    }
    found = parse_tree(dump_tree(tree))
    assert torch.equal(found["dense"]["x"], tree["dense"]["x"])  # type: ignore[index,call-overload]
    assert found["values"] == tree["values"]


def test_a_broken_connection_is_the_consequence_of_another_ranks_end_and_a_bug_is_not() -> None:
    assert is_consequence(RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer"))
    assert is_consequence(dist.DistBackendError("NCCL"))
    assert not is_consequence(RuntimeError("size mismatch"))
    assert not is_consequence(ValueError("gloo"))
