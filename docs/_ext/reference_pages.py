"""Writes the reference pages that follow from the code: packages, members, config keys, verbs, codes."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

from command_tables import command_tables
from config_tables import config_tables
from cut_tables import agreement_table, cost_tables
from finding_table import finding_table
from heart_tables import heart_tables
from paper_tables import paper_tables
from sphinx.application import Sphinx
from weighting_pages import toys_lost, toys_table, weighting_pages

import medmtl

INSIDE = (
    "medmtl.data.dicom",
    "medmtl.data.dicom.monai_reader",
    "medmtl.data.export",
    "medmtl.data.phantom",
    "medmtl.data.phantom.dicom",
    "medmtl.evaluation.comparison",
    "medmtl.inference.dicom",
)
"""Modules further inside whose names a user may import."""
INTERNAL = {"__main__", "_version", "cli", "commands", "config", "verbs"}
PAGE = """# {name}

```{{eval-rst}}
.. automodule:: {name}
   :members:
   :show-inheritance:
```
"""


def module_names() -> list[str]:
    """Names of the packages and modules whose public names a user may import."""
    found = (module.name for module in pkgutil.iter_modules(medmtl.__path__))
    return sorted([*(f"medmtl.{name}" for name in found if name not in INTERNAL), *INSIDE])


REGISTRIES = {
    "Weightings": ("medmtl.weighting", "WEIGHTINGS"),
    "Kinds of task": ("medmtl.tasks", "TASKS"),
    "Backbones": ("medmtl.models", "BACKBONES"),
    "Dataset formats": ("medmtl.data.formats", "FORMATS"),
    "Layouts to write": ("medmtl.data.export", "LAYOUTS"),
}


def options_of(member: type) -> str:
    """Names of a member's own options: keyword-only arguments, or the fields of its `Options`."""
    fields = getattr(getattr(member, "Options", None), "model_fields", None)
    if fields is not None:
        return ", ".join(f"`{name}`" for name in fields)
    parameters = inspect.signature(member).parameters.values()
    return ", ".join(f"`{p.name}`" for p in parameters if p.kind is p.KEYWORD_ONLY)


def member_tables() -> str:
    """A table per registry: short name, what it is, options."""
    parts = []
    for title, (module, name) in REGISTRIES.items():
        registry = getattr(importlib.import_module(module), name)
        rows = [f"## {title}", "", "| `type` | is | options |", "|---|---|---|"]
        for short in registry:
            member = registry.get(short)
            says = re.sub(r"([|*_<$])", r"\\\1", inspect.getdoc(member).split("\n\n")[0].replace("\n", " "))
            rows.append(f"| `{short}` | {says} | {options_of(member)} |")
        parts.append("\n".join(rows))
    return "\n\n".join(parts) + "\n"


def write_if_changed(path: Path, text: str) -> None:
    """Leaves an unchanged page alone, so that a second build reads only what is new."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def write_pages(app: Sphinx) -> None:
    """Fills ``reference/generated`` and removes pages of modules that are gone."""
    folder = Path(app.srcdir) / "reference" / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    pages = {f"{name}.md": PAGE.format(name=name) for name in module_names()}
    for stale in folder.glob("*.md"):
        if stale.name not in pages:
            stale.unlink()
    for name, text in pages.items():
        write_if_changed(folder / name, text)
    write_if_changed(folder / "_toys.txt", toys_table())
    write_if_changed(folder / "_toys_lost.txt", toys_lost())
    for name, text in (paper_tables() | heart_tables()).items():
        write_if_changed(folder / name, text)
    methods = folder / "weightings"
    methods.mkdir(exist_ok=True)
    pages = {f"{name}.md": page for name, page in weighting_pages().items()}
    for stale in methods.glob("*.md"):
        if stale.name not in pages:
            stale.unlink()
    for name, text in pages.items():
        write_if_changed(methods / name, text)
    write_if_changed(folder / "_cut.txt", cost_tables())
    write_if_changed(folder / "_cut_cosines.txt", agreement_table())
    write_if_changed(folder / "_members.txt", member_tables())
    write_if_changed(folder / "_config.txt", config_tables())
    write_if_changed(folder / "_commands.txt", command_tables())
    write_if_changed(folder / "_findings.txt", finding_table())


def keep_bars(
    _app: Sphinx, _what: str, _name: str, _object: object, _options: object, lines: list[str]
) -> None:
    """In docstrings ``|A|`` is a size, never reStructuredText's substitution; literals stay as they are."""
    for number, line in enumerate(lines):
        parts = re.split(r"(``.*?``)", line)
        lines[number] = "".join(part if part.startswith("``") else part.replace("|", r"\|") for part in parts)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", keep_bars)
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
