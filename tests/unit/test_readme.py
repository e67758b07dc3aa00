"""What the README shows runs, and what it lists is what there is."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets import UNet
from torch.optim import AdamW

from medmtl.data.columns import Column
from medmtl.losses import dice_cross_entropy
from medmtl.report.remedies import REMEDIES
from medmtl.tasks import TASKS, build_network, build_task, task_losses
from medmtl.types import Batch
from medmtl.weighting import WEIGHTINGS, build_weighting

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COLUMNS = {
    "anatomy": Column("anatomy", "mask", labels={"RV": 1, "MYO": 2, "LV": 3}),
    "disease": Column("disease", "category", classes=("NOR", "DCM")),
    "LV_EF": Column("LV_EF", "value", unit="%"),
}
SECTIONS = {
    "anatomy": {"type": "segmentation", "target": "anatomy"},
    "disease": {"type": "classification", "target": "disease"},
    "function": {"type": "regression", "targets": ["LV_EF"]},
}
BACKBONE = {
    "type": "unet",
    "widths": [4, 8],
    "kernels": [[3, 3, 1], [3, 3, 3]],
    "strides": [[1, 1, 1], [2, 2, 1]],
}


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)
    assert found is not None, f"the README has a {language} block"
    return found.group(1)


def side(of_diff: str, sign: str) -> str:
    lines = [line for line in of_diff.splitlines() if not line or line[0] in (" ", sign)]
    return "\n".join(line[1:] for line in lines) + "\n"


def run(code: str, folder: Path, **names: Any) -> dict[str, Any]:
    script = folder / "loop.py"
    script.write_text(code, encoding="utf-8")
    return runpy.run_path(str(script), init_globals=names)


def batch_of_one_case(seed: int, *, disease: bool = True) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    targets = {
        "anatomy": torch.randint(0, 4, (2, 16, 16, 4), generator=generator),
        "LV_EF": torch.tensor([55.0]),
        **({"disease": torch.tensor([1])} if disease else {}),
    }
    return Batch(
        image=torch.randn((2, 1, 16, 16, 4), generator=generator),
        case_of_frame=torch.tensor([0, 0]),
        spacing_mm=torch.tensor([[1.5, 1.5, 9.0]]),
        covariates=torch.empty((1, 0)),
        targets=targets,
        counts={"anatomy": 2, "LV_EF": 1, "disease": int(disease)},
        case_ids=("made-up",),
    )


def table_names(heading: str) -> list[str]:
    section = README.split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `([^`]+)` \|", section, flags=re.MULTILINE)[1:]  # the first is the header


def test_the_single_task_side_of_the_diff_trains(tmp_path: Path) -> None:
    after = run(
        side(block("diff"), "-"), tmp_path, UNet=UNet, AdamW=AdamW, dice_cross_entropy=dice_cross_entropy,
        batches=[batch_of_one_case(0), batch_of_one_case(1)],
    )  # fmt: skip
    assert torch.isfinite(after["loss"])


def test_the_multi_task_side_of_the_diff_trains_also_where_a_label_is_missing(tmp_path: Path) -> None:
    after = run(
        side(block("diff"), "+"), tmp_path, AdamW=AdamW, build_task=build_task, build_network=build_network,
        build_weighting=build_weighting, task_losses=task_losses, sections=SECTIONS, backbone=BACKBONE,
        columns=COLUMNS, batches=[batch_of_one_case(0), batch_of_one_case(1, disease=False)],
    )  # fmt: skip
    assert set(after["losses"]) == {"anatomy", "function"}, "the last batch has no disease"
    assert torch.isfinite(after["loss"])
    assert all(p.grad is None for p in after["model"].heads["disease"].parameters())


def test_the_diff_changes_fifteen_lines_or_fewer() -> None:
    changed = [line for line in block("diff").splitlines() if line[:1] in ("+", "-")]
    assert 0 < len(changed) <= 15


@pytest.mark.parametrize(("heading", "registry"), [("Tasks", TASKS), ("Weightings", WEIGHTINGS)])
def test_the_tables_list_every_registered_member_and_no_other(heading: str, registry: Any) -> None:
    assert sorted(table_names(heading)) == list(registry)


def test_every_file_that_the_readme_links_to_is_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_python_names_of_the_readme_are_public() -> None:
    import medmtl

    used = set(re.findall(r"medmtl\.(\w+)\(", block("python")))
    assert used
    assert used <= set(medmtl.__all__)


def test_pipelines_are_short_and_without_classes() -> None:
    scripts = list((ROOT / "pipelines").glob("*.py"))
    assert scripts
    for script in scripts:
        text = script.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 80, script.name
        assert not re.search(r"^class ", text, flags=re.MULTILINE), script.name


def test_notebooks_are_committed_without_outputs() -> None:
    notebooks = list((ROOT / "notebooks").glob("*.ipynb"))
    assert notebooks
    for notebook in notebooks:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        assert code
        assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code), notebook.name


def test_every_finding_code_that_the_code_gives_has_a_remedy_and_a_page() -> None:
    given = {
        code
        for source in (ROOT / "medmtl").rglob("*.py")
        for code in re.findall(
            r'(?:CaseError|Finding|Kind|problems\.add)\(\s*"([A-Z_]+)"', source.read_text(encoding="utf-8")
        )
    }
    assert given
    assert given <= set(REMEDIES)
    pages = {page.stem: page for page in (ROOT / "docs" / "reference" / "findings").glob("*.md")}
    assert set(pages) == set(REMEDIES)
    for code, page in pages.items():
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"# `{code}`\n")
        assert "\n## What to do\n" in text, code
