"""What nnU-Net itself trained, from its own planner to its own checkpoint, says the same in medmtl."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from medmtl.data.export import export
from medmtl.data.phantom import generate_cohort
from medmtl.inference.nnunet import read_nnunet

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("nnunetv2") is None, reason="needs nnunetv2 from PyPI"),
]
PROGRAM = Path(__file__).parents[1] / "helpers" / "nnunet_program.py"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """nnU-Net's folders, with a plain and a residual network that were trained for three steps."""
    base = tmp_path_factory.mktemp("nnunet")
    phantoms = generate_cohort(
        base / "phantoms", cases=3, frames=2, shape=(40, 40, 10), spacing_mm=(4.0, 4.0, 9.0)
    )
    export(phantoms, base / "raw" / "Dataset001_Phantom", to="nnunet", mask="anatomy")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(PROGRAM), str(base)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return base


@pytest.mark.parametrize("plans", ["nnUNetPlans", "nnUNetResEncUNetMPlans"])
def test_a_network_that_nnunet_trained_has_the_same_logits(trained: Path, plans: str) -> None:
    with np.load(trained / f"{plans}.npz") as kept:
        folder = Path(str(kept["folder"]))
        image, expected = (
            torch.from_numpy(kept[name]).permute(0, 1, 4, 3, 2) for name in ("image", "logits")
        )
    model = read_nnunet(folder, fold="all")
    assert model.backbone["encoder"] == ("plain" if plans == "nnUNetPlans" else "residual")
    assert tuple(image.shape[2:]) == model.preparation.patch
    assert model.preparation.spacing_mm == (4.0, 4.0, 9.0)
    assert model.columns["anatomy"].labels == {"RV": 1, "MYO": 2, "LV": 3}
    one = torch.zeros(1, dtype=torch.int64)
    with torch.no_grad():
        features = model.network.features(image, one, torch.ones(1, 3), torch.zeros(1, 0))
        found = model.network.run_dense(features, ["anatomy"])["anatomy"][0]
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) < 1e-4
