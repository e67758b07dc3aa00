"""What is frozen stays what it is to the last bit, and the rest learns."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medmtl.config import parse_config
from medmtl.data.dataset import Dataset, open_dataset
from medmtl.engine import Job, Run, train
from medmtl.engine.cut import Cut
from medmtl.engine.freeze import encoder_names, learning, train_mode
from medmtl.engine.step import train_step
from medmtl.inference import load_model
from medmtl.models import Branches
from medmtl.models.unet import UNet
from medmtl.tasks import task_losses
from medmtl.types import ConfigError
from medmtl.weighting import build_weighting
from tests.helpers.study import make_batches, make_job, make_ready, sections, write_study

ALL = ("anatomy", "disease", "function")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(write_study(tmp_path_factory.mktemp("study") / "dataset"))


@pytest.fixture(scope="module")
def origin(study: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(make_job(study, tmp_path_factory.mktemp("runs") / "origin", sections("anatomy")))


def job(study: Dataset, output: Path, origin: Run, *frozen: str, **options: Any) -> Job:
    tasks = options.pop("tasks", sections(*ALL))
    return make_job(study, output, tasks, start_from=str(origin.folder), freeze=list(frozen), **options)


# --------------------------------------------------------------------------------------------- refused


def section(**training: Any) -> dict[str, Any]:
    return {"tasks": sections(*ALL), "training": training}


def test_freezing_without_weights_to_keep_is_refused() -> None:
    with pytest.raises(ConfigError, match="name what they come from with start_from"):
        parse_config(section(freeze=["encoder"]))


def test_a_part_that_there_is_not_is_named_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"training.freeze: 'encodr' is no part .*; did you mean 'encoder'"):
        parse_config(section(freeze=["encodr"], start_from="model"))


@pytest.mark.parametrize("method", ["mgda", "pcgrad", "gradnorm"])
def test_a_method_on_gradients_of_the_encoder_is_refused_where_it_is_frozen(method: str) -> None:
    found = {**section(freeze=["encoder"], start_from="model"), "weighting": {"type": method}}
    with pytest.raises(ConfigError, match=r"gradients on the encoder, which training.freeze keeps as it is"):
        parse_config(found)
    assert parse_config({**found, "training": {"freeze": ["anatomy"], "start_from": "model"}}) is not None


def test_comparing_gradients_of_a_frozen_encoder_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"training.gradient_diagnostics: .* leave out one of the two"):
        parse_config(section(freeze=["encoder"], start_from="model", gradient_diagnostics=2))


def test_random_weights_are_not_frozen(study: Dataset, origin: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"training.freeze: disease is not among the weights that training"):
        make_ready(job(study, tmp_path, origin, "encoder", "disease"))


def test_freezing_everything_leaves_nothing_to_do(study: Dataset, origin: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leaves nothing to be trained"):
        make_ready(job(study, tmp_path, origin, "encoder", "decoder", "anatomy", tasks=sections("anatomy")))


def test_a_decoder_for_each_task_is_frozen_with_the_task(study: Dataset, tmp_path: Path) -> None:
    backbone = {"type": "unet", "widths": [4, 8], "decoders": "separate"}
    own = train(make_job(study, tmp_path / "own", sections("anatomy"), backbone=backbone))
    with pytest.raises(ConfigError, match="name the tasks instead of the decoder"):
        make_ready(job(study, tmp_path / "run", own, "decoder", backbone=backbone))
    ready = make_ready(job(study, tmp_path / "run", own, "anatomy", backbone=backbone))
    assert not any(p.requires_grad for p in ready.model.network.decoders["anatomy"].parameters())


# ---------------------------------------------------------------------------------------------- frozen


@pytest.mark.parametrize("weighting", ["balanced", "uw", "dwa"])
@pytest.mark.parametrize("frozen", [("encoder",), ("encoder", "decoder", "anatomy"), ("decoder", "anatomy")])
def test_frozen_weights_are_the_same_to_the_last_bit_and_all_others_moved(
    study: Dataset, origin: Run, tmp_path: Path, frozen: tuple[str, ...], weighting: str
) -> None:
    asked = job(study, tmp_path, origin, *frozen, weighting={"type": weighting}, epochs=2, steps_per_epoch=2)
    run = train(asked)
    before, after = (m.network.state_dict() for m in (load_model(origin.folder), run.model))
    begun = make_ready(asked).model.network.state_dict()
    backbone = run.model.network.backbone
    encoder = {f"backbone.{name}" for name in encoder_names(backbone, 1)}
    for name in dict(run.model.network.named_parameters()):
        part = (
            "encoder"
            if name in encoder
            else "decoder"
            if name.startswith("backbone.")
            else name.split(".")[1]
        )
        if part in frozen:
            assert torch.equal(after[name], before[name]), name
        else:
            assert not torch.equal(after[name], begun[name]), name


def test_the_optimizer_holds_no_frozen_weight_and_no_gradient_is_made_for_one(
    study: Dataset, origin: Run, tmp_path: Path
) -> None:
    ready = make_ready(job(study, tmp_path, origin, "encoder"))
    network = ready.model.network
    weighting = build_weighting("ew", tuple(ready.model.tasks))
    known = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(known, lr=1e-2)
    train_mode(network)
    train_step(network, make_batches(ready).batch(0), ready.learning, weighting, optimizer)
    frozen = {network.backbone.get_parameter(name) for name in encoder_names(network.backbone, 1)}
    assert all(p.grad is None for p in frozen)
    assert all(p.grad is not None for p in known)
    assert frozen.isdisjoint(known)


def test_a_task_without_anything_to_learn_is_left_out_of_the_loss_but_still_judged(
    study: Dataset, origin: Run, tmp_path: Path
) -> None:
    run = train(job(study, tmp_path, origin, "encoder", "decoder", "anatomy", epochs=1, steps_per_epoch=2))
    header, *rows = [line.split(",") for line in (tmp_path / "weights.csv").read_text().splitlines()]
    assert {row[header.index("anatomy.loss")] for row in rows} == {""}
    assert "" not in {row[header.index("disease.loss")] for row in rows}
    assert "val.anatomy.dice" in (tmp_path / "metrics.csv").read_text()
    assert "anatomy" in run.model.tasks
    log = (tmp_path / "log.txt").read_text()
    assert "has had no label" not in log
    assert "the backbone and anatomy; disease, function begin anew" in log


def test_tasks_learn_as_long_as_something_below_them_does(
    study: Dataset, origin: Run, tmp_path: Path
) -> None:
    def left(*frozen: str) -> list[str]:
        ready = make_ready(job(study, tmp_path, origin, *frozen))
        return list(learning(ready.model.network, ready.model.tasks, 1))

    assert left("anatomy") == left("encoder", "anatomy") == left("decoder", "anatomy") == list(ALL)
    assert left("encoder", "decoder", "anatomy") == ["disease", "function"]


def test_what_is_frozen_is_run_as_in_prediction(study: Dataset, origin: Run, tmp_path: Path) -> None:
    network = make_ready(job(study, tmp_path, origin, "encoder")).model.network
    train_mode(network)
    assert not network.backbone.get_submodule("encoder").training
    assert network.backbone.get_submodule("decoder").training
    assert network.heads["anatomy"].training


def test_a_run_with_a_frozen_encoder_goes_on_bit_for_bit(study: Dataset, origin: Run, tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 2, "steps_per_epoch": 2}
    whole = train(job(study, tmp_path / "whole", origin, "encoder", **options))

    def stop(what: str, done: int, total: int) -> None:
        if what == "train" and done == 3:
            raise InterruptedError

    part = job(study, tmp_path / "part", origin, "encoder", **options)
    with pytest.raises(InterruptedError):
        train(part, progress=stop)
    resumed = train(part, resume=True)
    for name, value in whole.model.network.state_dict().items():
        assert torch.equal(resumed.model.network.state_dict()[name], value), name


# ------------------------------------------------------------------------------- groups with own branches

FOUR = (*ALL, "t1")
IN_GROUPS = [["anatomy", "disease"], ["t1", "function"]]
"""Both with a task that reads the decoder, so that no weight is left without a reader."""
SHARING: dict[str, dict[str, Any]] = {
    "common level": {"type": "groups", "groups": IN_GROUPS, "shared_levels": 1},
    "apart": {"type": "groups", "groups": IN_GROUPS},
    "soft": {"type": "soft", "groups": IN_GROUPS, "strength": 0.5},
}


def branched(sharing: str, decoders: str = "shared") -> dict[str, Any]:
    return {"type": "unet", "widths": [4, 8], "decoders": decoders, "sharing": SHARING[sharing]}


@pytest.fixture(scope="module")
def origins(study: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Callable[[dict[str, Any]], Run]:
    """A short training of four tasks with a backbone, once for each backbone."""
    folder = tmp_path_factory.mktemp("origins")
    known: dict[str, Run] = {}

    def trained(backbone: dict[str, Any]) -> Run:
        key = str(backbone)
        if key not in known:
            output = folder / str(len(known))
            short: dict[str, Any] = {"epochs": 1, "steps_per_epoch": 1}
            known[key] = train(make_job(study, output, sections(*FOUR), backbone=backbone, **short))
        return known[key]

    return trained


@pytest.mark.parametrize(
    ("sharing", "decoders", "weighting", "frozen"),
    [
        ("common level", "shared", "balanced", ("encoder",)),
        ("common level", "shared", "pcgrad", ("decoder", "anatomy")),
        ("common level", "separate", "mgda", ("anatomy", "disease")),
        ("apart", "shared", "uw", ("encoder", "decoder", "anatomy", "disease")),
        ("apart", "separate", "cagrad", ("t1",)),
        ("soft", "shared", "balanced", ("encoder", "t1")),
        ("soft", "shared", "uw", ("decoder", "function")),
    ],
)
def test_what_is_frozen_in_branches_stays_to_the_last_bit_and_all_others_moved(
    study: Dataset,
    origins: Callable[[dict[str, Any]], Run],
    tmp_path: Path,
    sharing: str,
    decoders: str,
    weighting: str,
    frozen: tuple[str, ...],
) -> None:
    backbone = branched(sharing, decoders)
    before = origins(backbone)
    run = train(
        job(
            study, tmp_path, before, *frozen, tasks=sections(*FOUR), backbone=backbone,
            weighting={"type": weighting}, epochs=2, steps_per_epoch=2, ema=0.0,
        )
    )  # fmt: skip
    begun, after = before.model.network.state_dict(), run.model.network.state_dict()
    encoder = {f"backbone.{name}" for name in encoder_names(run.model.network.backbone, 1)}
    assert all(".encoder." in name for name in encoder)
    moved = set()
    for name, _ in run.model.network.named_parameters():
        within = name in encoder
        part = "encoder" if within else "decoder" if name.startswith("backbone.") else name.split(".")[1]
        if not torch.equal(after[name], begun[name]):
            moved.add(part)
        assert torch.equal(after[name], begun[name]) == (part in frozen), name
    assert moved == {"encoder", *FOUR, *(["decoder"] if decoders == "shared" else [])} - set(frozen)


@pytest.mark.parametrize("on", ["last_layers", "shared_parameters"])
@pytest.mark.parametrize("sharing", ["common level", "apart"])
def test_the_cut_gives_the_joint_gradient_above_frozen_decoders_of_groups(
    study: Dataset, origins: Callable[[dict[str, Any]], Run], tmp_path: Path, sharing: str, on: str
) -> None:
    backbone = branched(sharing)
    origin = origins(backbone)
    asked = job(study, tmp_path, origin, "decoder", "anatomy", "t1", tasks=sections(*FOUR), backbone=backbone)
    ready = make_ready(asked)
    network, tasks = ready.model.network.train(), ready.model.tasks
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    batch = make_batches(ready).batch(0)

    def losses(cut: Cut | None) -> dict[str, Tensor]:
        inputs = (batch.image, batch.case_of_frame, batch.spacing_mm, batch.covariates)
        outputs = network(*inputs, cut=cut, opened=cut is not None and cut.opened)
        return task_losses(tasks, outputs, batch)[0]

    torch.stack(list(losses(None).values())).sum().backward()
    expected = {name: p.grad for name, p in network.named_parameters()}
    network.zero_grad(set_to_none=True)
    cut = Cut(network, on)
    cut.pull(losses(cut))
    gradients = cut.compare(FOUR)
    cut.push({task: torch.ones(()) for task in FOUR}, weigh_heads=True)
    assert (gradients.gramian.diagonal()[[FOUR.index("anatomy"), FOUR.index("t1")]] > 0).all()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is None) == (expected[name] is None) == (not parameter.requires_grad), name
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shared_levels", [0, 1])
def test_the_encoder_of_branches_is_found_where_blocks_are_computed_again(shared_levels: int) -> None:
    shape: dict[str, Any] = {"widths": [4, 8], "kernels": [(3, 3, 3)] * 2, "strides": [(1, 1, 1), (2, 2, 2)]}

    def names(checkpointing: bool) -> set[str]:
        build = partial(UNet, 1, checkpointing=checkpointing, **shape)
        return encoder_names(Branches(build, IN_GROUPS, shared_levels=shared_levels), 1)

    assert names(True) == names(False)
    assert {name.split(".")[2] for name in names(True)} == {"encoder"}


def test_a_frozen_encoder_is_run_as_in_prediction_in_every_branch(
    study: Dataset, origins: Callable[[dict[str, Any]], Run], tmp_path: Path
) -> None:
    backbone = branched("soft")
    asked = job(study, tmp_path, origins(backbone), "encoder", tasks=sections(*FOUR), backbone=backbone)
    ready = make_ready(asked)
    network = ready.model.network
    train_mode(network)
    for index in range(2):
        assert not network.backbone.get_submodule(f"branches.{index}.encoder").training
        assert network.backbone.get_submodule(f"branches.{index}.decoder").training
    assert list(learning(network, ready.model.tasks, 1)) == list(FOUR)


@pytest.mark.parametrize("method", ["mgda", "gradnorm"])
def test_a_method_on_gradients_is_refused_in_one_sentence_where_the_encoders_of_groups_are_frozen(
    method: str,
) -> None:
    found = {
        "tasks": sections(*FOUR),
        "training": {"freeze": ["encoder"], "start_from": "model"},
        "backbone": branched("common level"),
        "weighting": {"type": method},
    }
    with pytest.raises(ConfigError, match=r"the encoder, which training.freeze keeps as it is") as refused:
        parse_config(found)
    assert "\n" not in str(refused.value)
