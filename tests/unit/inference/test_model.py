"""A model folder: what is saved is what is loaded, nothing else is imported, and damage is told."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from medmtl.data.dataset import Dataset
from medmtl.inference import Model, load_model
from medmtl.types import ConfigError
from tests.helpers.study import make_batches, make_job, make_ready


def change(folder: Path, **values: Any) -> None:
    path = folder / "model.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | values, sort_keys=False))


def test_a_saved_model_says_the_same_when_loaded(model: Model, study: Dataset, tmp_path: Path) -> None:
    model.metadata = {"made": "today"}
    model.save(tmp_path / "model")
    again = load_model(tmp_path / "model")
    batch = make_batches(make_ready(make_job(study, tmp_path / "run"))).batch(0)
    inputs = (batch.image, batch.case_of_frame, batch.spacing_mm, batch.covariates)
    with torch.inference_mode():
        one, other = model.network(*inputs), again.network(*inputs)
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=0)
    assert {name: task.state() for name, task in again.tasks.items()} == {
        name: task.state() for name, task in model.tasks.items()
    }
    assert {name: task.describe() for name, task in again.tasks.items()} == {
        name: task.describe() for name, task in model.tasks.items()
    }
    for part in ("preparation", "channels", "covariates", "cycle", "backbone", "task_sections", "metadata"):
        assert getattr(again, part) == getattr(model, part)
    assert dict(again.columns) == dict(model.columns)
    assert not again.network.training


def test_saving_a_loaded_model_gives_the_same_files(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "one")
    load_model(tmp_path / "one").save(tmp_path / "two")
    for name in ("model.yaml", "model.safetensors", "metadata.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_run_folder_stands_for_the_model_in_it(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "run" / "model")
    assert load_model(tmp_path / "run").folder == tmp_path / "run" / "model"


@pytest.mark.parametrize("place", ["backbone", "task"])
def test_a_name_that_is_not_medmtls_is_not_imported_unless_allowed(
    model: Model, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"sly_{place}"
    (tmp_path / f"{name}.py").write_text("from medmtl.tasks import Segmentation as Sly\n")
    monkeypatch.syspath_prepend(tmp_path)
    model.save(tmp_path / "model")
    found = yaml.safe_load((tmp_path / "model" / "model.yaml").read_text())
    section = found["backbone"] if place == "backbone" else found["tasks"]["anatomy"]
    section["type"] = f"{name}:Sly"
    change(tmp_path / "model", **found)
    with pytest.raises(ConfigError, match=f"names '{name}:Sly', which is not part of medmtl; if you trust"):
        load_model(tmp_path / "model")
    with pytest.raises(ConfigError, match=f"names '{name}:Sly'"):
        load_model(tmp_path / "model", allow=[f"{name}:Other"])
    assert name not in sys.modules
    if place == "task":
        assert load_model(tmp_path / "model", allow=[f"{name}:Sly"]).tasks["anatomy"].dense
    else:
        with pytest.raises(ConfigError, match="is not a backbone"):
            load_model(tmp_path / "model", allow=[f"{name}:Sly"])
    del sys.modules[name]


def test_yaml_that_would_build_objects_is_not_obeyed(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    path = tmp_path / "model" / "model.yaml"
    path.write_text(path.read_text() + f"more: !!python/object/apply:os.mkdir [{tmp_path / 'owned'}]\n")
    with pytest.raises(ConfigError, match=r"model.yaml: is damaged"):
        load_model(tmp_path / "model")
    assert not (tmp_path / "owned").exists()


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no model.yaml here; give the model folder of a finished run"):
        load_model(tmp_path)


def test_another_format_is_told(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path)
    change(tmp_path, medmtl_model=99)
    with pytest.raises(ConfigError, match="is not a medmtl model of format 1"):
        load_model(tmp_path)


@pytest.mark.parametrize("part", ["backbone", "tasks", "columns", "channels", "preparation", "cycle"])
def test_a_model_yaml_that_misses_a_part_is_told(model: Model, tmp_path: Path, part: str) -> None:
    model.save(tmp_path)
    found = yaml.safe_load((tmp_path / "model.yaml").read_text())
    del found[part]
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(found))
    with pytest.raises(ConfigError, match=rf"model.yaml: is damaged \(KeyError\('{part}'\)\)"):
        load_model(tmp_path)


def test_weights_of_another_network_are_told_by_the_first_tensor_that_differs(
    model: Model, tmp_path: Path
) -> None:
    model.save(tmp_path)
    change(tmp_path, backbone={**model.backbone, "widths": [4, 6]})
    with pytest.raises(
        ConfigError, match=r"model.safetensors: does not fit its model.yaml \(\d+ tensors differ"
    ):
        load_model(tmp_path)


def test_weights_with_a_tensor_too_few_are_told(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    name = sorted(weights)[0]
    del weights[name]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=f"1 tensors differ, the first is '{name}'"):
        load_model(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_truncated_weights_are_told(model: Model, tmp_path: Path, share: float) -> None:
    model.save(tmp_path)
    path = tmp_path / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ConfigError, match=r"model.safetensors: is not a whole weights file"):
        load_model(tmp_path)


def test_missing_weights_are_told(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"model.safetensors: is missing; the model folder is not complete"):
        load_model(tmp_path)


def test_a_model_that_misses_its_metadata_is_told(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path)
    (tmp_path / "metadata.json").unlink()
    with pytest.raises(ConfigError, match=r"metadata.json: is missing; the model folder is not complete"):
        load_model(tmp_path)


@pytest.mark.parametrize("text", ["{", "[1]", '{"sha256": 3}'])
def test_metadata_that_is_none_is_told(model: Model, tmp_path: Path, text: str) -> None:
    model.save(tmp_path)
    (tmp_path / "metadata.json").write_text(text)
    with pytest.raises(ConfigError, match=r"metadata.json: is damaged; copy the model again"):
        load_model(tmp_path)


def test_weights_that_were_changed_after_they_were_saved_are_refused(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path)
    path = tmp_path / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"model.safetensors: is not the file that was saved with this"):
        load_model(tmp_path)


@pytest.mark.parametrize("name", ["weights.pt", "model.pth", "extra.pkl", "pytorch_model.BIN"])
def test_a_pickle_among_the_files_is_refused_by_name_before_anything_is_read(
    model: Model, tmp_path: Path, name: str
) -> None:
    model.save(tmp_path)
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(ConfigError, match=rf"{name}: may hold a pickle, which runs code when it is read"):
        load_model(tmp_path)


def test_a_models_digest_tells_weights_and_description_apart_from_others(
    model: Model, tmp_path: Path
) -> None:
    digest = model.digest()
    model.save(tmp_path)
    assert load_model(tmp_path).digest() == digest
    next(model.network.parameters()).data.flatten()[0] += 1
    changed = model.digest()
    assert changed != digest
    model.preparation = replace(model.preparation, spacing_mm=(3.0, 3.0, 8.0))
    assert model.digest() not in (digest, changed)


def test_an_unknown_task_is_told_with_the_nearest_one(model: Model) -> None:
    assert model.task_names() == tuple(model.tasks)
    assert model.task_names(["disease"]) == ("disease",)
    with pytest.raises(ConfigError, match="the model has no task 'diseas'; did you mean 'disease'"):
        model.task_names(["diseas"])
