"""Weights of other libraries become the encoder of ours; what does not fit is one sentence."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets import SegResNet, SwinUNETR
from safetensors.torch import save_file
from torch import Tensor

from medmtl.data.dataset import Dataset, open_dataset
from medmtl.engine import train
from medmtl.engine.foreign import foreign_weights
from medmtl.engine.freeze import encoder_names
from medmtl.models import BACKBONES
from medmtl.types import ConfigError
from tests.helpers.study import make_job, make_ready, sections, write_study

SMALL = {"type": "segresnet", "width": 8, "blocks": [1, 1]}
PATCH = (16, 16, 4)


def monai_segresnet(channels: int = 1, width: int = 8) -> SegResNet:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return SegResNet(
            init_filters=width, in_channels=channels, out_channels=3, blocks_down=(1, 1), blocks_up=(1,)
        ).eval()


def written(folder: Path, weights: dict[str, Any], name: str = "weights.pt") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if name.endswith("safetensors"):
        save_file({key: tensor.contiguous() for key, tensor in weights.items()}, folder / name)
    else:
        torch.save(weights, folder / name)
    return folder / name


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(write_study(tmp_path_factory.mktemp("study") / "dataset"))


# --------------------------------------------------------------------------------------------- refused


class Harmful:
    def __reduce__(self) -> Any:
        return (os.system, ("touch harmed",))


def test_a_file_that_would_run_code_is_refused_and_runs_nothing(
    study: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, {**monai_segresnet().state_dict(), "more": Harmful()})
    with pytest.raises(ConfigError, match=r"training.start_from: .*holds more than numbers, and is not read"):
        make_ready(make_job(study, tmp_path / "run", backbone=SMALL, start_from=str(path)))
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: {"epoch": 3}, "holds no tensors by name"),
        (lambda w: {"fc.weight": torch.zeros(3, 3)}, "has no weights of the encoder of SegResNetBackbone"),
        (
            lambda w: {k: v for k, v in w.items() if k != "down_layers.1.1.conv2.conv.weight"},
            "of a part that",
        ),
        (lambda w: {**w, "convInit.conv.weight": torch.zeros(8, 4, 3, 3, 3)}, r"\(8, 4, 3, 3, 3\) there and"),
    ],
)
def test_what_does_not_fit_is_one_clear_sentence(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], dict[str, Any]], said: str
) -> None:
    backbone = BACKBONES.get("segresnet")(in_channels=1, width=8, blocks=(1, 1))
    path = written(tmp_path, change(monai_segresnet().state_dict()))
    with pytest.raises(ConfigError, match=said):
        foreign_weights(path, backbone, 1, where="training.start_from")


def test_missing_and_damaged_files_are_named(study: Dataset, tmp_path: Path) -> None:
    job = make_job(study, tmp_path / "run", backbone=SMALL, start_from=str(tmp_path / "weights.pt"))
    with pytest.raises(ConfigError, match=r"weights.pt: no such file"):
        make_ready(job)
    (tmp_path / "weights.pt").write_bytes(b"half")
    with pytest.raises(ConfigError, match=r"weights.pt: (is no whole file|holds more)"):
        make_ready(job)


def test_what_a_bundle_says_of_its_network_is_told_where_it_does_not_fit(
    study: Dataset, tmp_path: Path
) -> None:
    written(tmp_path / "bundle" / "models", monai_segresnet(width=16).state_dict(), "model.pt")
    (tmp_path / "bundle" / "configs").mkdir()
    network = {"_target_": "SegResNet", "init_filters": 16, "blocks_down": [1, 1]}
    (tmp_path / "bundle" / "configs" / "inference.json").write_text(json.dumps({"network_def": network}))
    with pytest.raises(ConfigError, match=r"inference.json says _target_: SegResNet, init_filters: 16"):
        make_ready(make_job(study, tmp_path / "run", backbone=SMALL, start_from=str(tmp_path / "bundle")))


# ---------------------------------------------------------------------------------------------- taken


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize("wrap", ["", "module.", "model.backbone."])
def test_monais_segresnet_has_the_same_features_here(tmp_path: Path, wrap: str, name: str) -> None:
    theirs = monai_segresnet(channels=2)
    weights = {wrap + key: tensor for key, tensor in theirs.state_dict().items()}
    kept: dict[str, Any] = weights if name.endswith("safetensors") or not wrap else {"state_dict": weights}
    ours = BACKBONES.get("segresnet")(in_channels=2, width=8, blocks=(1, 1))
    taken, says, whole = foreign_weights(written(tmp_path, kept, name), ours, 2, where="")
    ours.load_state_dict(taken)
    image = torch.randn(1, 2, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        pyramid = ours.eval().encode(image)
        assert torch.equal(theirs.conv_final(ours.decode(pyramid)[0]), theirs(image))
    assert whole
    assert says == f"{len(taken)} of the backbone's {len(taken)} tensors"


def test_a_pretrained_swin_transformer_alone_is_taken_and_what_lacks_is_told(tmp_path: Path) -> None:
    pytest.importorskip("einops")
    theirs = SwinUNETR(in_channels=1, out_channels=2, feature_size=12, depths=(1, 1, 1, 1))
    alone = {f"module.{key}": tensor for key, tensor in theirs.swinViT.state_dict().items()}
    ours = BACKBONES.get("swin_unetr")(in_channels=1, width=12, depths=(1, 1, 1, 1))
    path = written(tmp_path, {"state_dict": alone})
    taken, says, whole = foreign_weights(path, ours, 1, where="")
    assert set(taken) == {name for name in ours.state_dict() if name.startswith("transformer.")}
    assert "levels, bottom, up of it begin anew" in says
    assert not whole
    whole_net = written(tmp_path, theirs.state_dict(), "whole.pt")
    taken, _, whole = foreign_weights(whole_net, ours, 1, where="")
    assert whole
    assert taken.keys() == ours.state_dict().keys()


def test_a_bundles_encoder_is_frozen_while_all_tasks_learn_on_it(study: Dataset, tmp_path: Path) -> None:
    theirs = monai_segresnet()
    written(tmp_path / "bundle" / "models", theirs.state_dict(), "model.pt")
    run = train(
        make_job(
            study,
            tmp_path / "run",
            sections("anatomy", "disease"),
            backbone=SMALL,
            start_from=str(tmp_path / "bundle"),
            freeze=["encoder"],
        )
    )
    backbone = run.model.network.backbone
    state = theirs.state_dict()
    assert torch.equal(backbone.get_parameter("stem.conv.weight"), state["convInit.conv.weight"])
    encoder = encoder_names(backbone, 1)
    for name, value in backbone.state_dict().items():
        theirs_name = name.replace("stem.", "convInit.").replace("down.", "down_layers.")
        assert (name in encoder) == (theirs_name in state and torch.equal(value, state[theirs_name])), name
    assert "all heads begin anew" in (tmp_path / "run" / "log.txt").read_text()


def test_an_encoder_that_is_not_whole_is_not_frozen(study: Dataset, tmp_path: Path) -> None:
    stem = {key: t for key, t in monai_segresnet().state_dict().items() if key.startswith("convInit.")}
    path = written(tmp_path, stem)
    options: dict[str, Any] = {"backbone": SMALL, "start_from": str(path)}
    with pytest.raises(ConfigError, match=r"training.freeze: encoder is not among the weights"):
        make_ready(make_job(study, tmp_path / "run", freeze=["encoder"], **options))
    ready = make_ready(make_job(study, tmp_path / "run", **options))
    assert torch.equal(
        ready.model.network.backbone.get_parameter("stem.conv.weight"), stem["convInit.conv.weight"]
    )
    assert "down, up, blocks of it begin anew" in ready.started


def test_a_backbones_own_state_dict_is_taken(study: Dataset, tmp_path: Path) -> None:
    other = make_ready(make_job(study, tmp_path / "other", seed=3)).model.network
    path = written(tmp_path, {"model": other.backbone.state_dict()})
    ready = make_ready(make_job(study, tmp_path / "run", start_from=str(path)))
    for name, value in other.backbone.state_dict().items():
        assert torch.equal(ready.model.network.backbone.state_dict()[name], value), name
