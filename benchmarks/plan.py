"""The planner: ACDC beside nnU-Net's published plan, and estimated beside measured memory.

python benchmarks/plan.py DATASET     # an ingested ACDC; writes benchmarks/results/plan.json
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from record import write_result

from medmtl.data import open_dataset
from medmtl.plan import Budget, Load, Wishes, plan_dataset
from medmtl.plan.memory import FIXED, GIB, training_need

PUBLISHED = {
    "spacing_mm": [1.5625, 1.5625, 5.0],
    "patch": [224, 256, 20],
    "strides": [[1, 1, 1], [2, 2, 1], [2, 2, 2], [2, 2, 2], [2, 2, 1], [2, 2, 1]],
    "kernels": [[3, 3, 1], [3, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]],
    "volumes per step": 4,
    "source": "nnU-Net v2, Dataset027_ACDC, 3d_fullres, axes in medmtl's order",
}
NETWORKS = {
    "plain, isotropic": ({"residual": False}, [[2, 2, 2]] * 3, (96, 96, 96)),
    "residual, isotropic": ({"residual": True}, [[2, 2, 2]] * 3, (96, 96, 96)),
    "residual, stack": ({"residual": True}, [[2, 2, 1]] * 3, (192, 192, 16)),
    "plain, large": ({"residual": False}, [[2, 2, 2]] * 3, (128, 128, 128)),
}
STEP = """
import json, resource, sys, torch
from medmtl.models import BACKBONES
options, patch = json.loads(sys.argv[1])
options.pop("type")
torch.set_num_threads(1)
net = BACKBONES.get("unet")(in_channels=1, **options)
optimizer = torch.optim.AdamW(net.parameters())
def step(shape):
    out = net.decode(net.encode(torch.randn(1, 1, *shape)))[0]
    optimizer.zero_grad()
    out.square().mean().backward()
    optimizer.step()
step([16, 16, 16])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
step(patch)
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


def plans(dataset: Path) -> dict[str, Any]:
    """ACDC at 8 GiB, as medmtl and as nnU-Net would have it."""
    opened = open_dataset(dataset)
    budget, load = Budget(8 * GIB, 8 * GIB, "a GPU of 8 GiB", 2), Load(2.0, dense_channels=4)
    asked = {
        "by itself": Wishes(),
        "slices resampled, plain blocks": Wishes(
            slices="resample", backbone={"type": "unet", "residual": False}
        ),
    }
    found: dict[str, Any] = {"published by nnU-Net": PUBLISHED}
    for name, wishes in asked.items():
        plan, _ = plan_dataset(opened, wishes, budget, load)
        found[name] = {
            "spacing_mm": list(plan.preparation.spacing_mm),
            "patch": list(plan.preparation.patch),
            "strides": plan.backbone["strides"],
            "kernels": plan.backbone["kernels"],
            "volumes per step": plan.batch_size * load.frames_per_case,
            "reasons": plan.reasons,
        }
    return found


def memory() -> list[dict[str, Any]]:
    """Peak of a real training step of one volume on the CPU, in a process of its own, beside the estimate."""
    rows = []
    for name, (options, pools, patch) in NETWORKS.items():
        backbone = {
            "type": "unet", "widths": [16, 32, 64, 128], "kernels": [[3, 3, 3]] * 4,
            "strides": [[1, 1, 1], *pools], **options,
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", STEP, json.dumps([backbone, patch])],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        need = training_need(backbone, patch, channels=1)
        assert need is not None
        peak = int(done.stdout)
        rows.append(
            {
                "network": name,
                "patch": list(patch),
                "measured GB beyond the process": round(peak / 1e9, 3),
                "estimated GB per volume": round(need.per_volume / 1e9, 3),
                "of which kept for the backward pass": round(need.kept / 1e9, 3),
                "measured over estimated": round(peak / need.per_volume, 2),
                "measured over estimated with the fixed part": round(peak / (need.per_volume + FIXED), 2),
            }
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    found = plans(Path(sys.argv[1]))
    print(
        write_result(
            "plan", "python benchmarks/plan.py DATASET", {"acdc": found, "memory on a CPU": memory()}
        )
    )


if __name__ == "__main__":
    main()
