"""`import medmtl` is quick: its names are there, and what they need is loaded when they are used."""

from __future__ import annotations

import runpy
import subprocess
import sys

import pytest

import medmtl

HEAVY = ("ignite", "matplotlib", "monai", "nibabel", "numpy", "pandas", "scipy", "sklearn", "torch")


def loaded_after(statement: str) -> set[str]:
    """Which heavy packages a fresh interpreter has imported after a statement."""
    code = f"import sys\n{statement}\nsys.stderr.write(' '.join({HEAVY!r} & sys.modules.keys()))"
    code = code.replace(repr(HEAVY), f"set({HEAVY!r})")
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(found.stderr.split())


def test_importing_medmtl_imports_nothing_heavy() -> None:
    assert loaded_after("import medmtl") == set()


def test_the_help_of_the_command_line_imports_nothing_heavy() -> None:
    assert loaded_after("from medmtl.cli import run; assert run(['--help']) == 0") == set()


def test_the_help_of_every_verb_imports_nothing_heavy() -> None:
    statement = (
        "from medmtl.cli import run\n"
        "for verb in 'demo inspect ingest plan train evaluate predict report schema'.split():\n"
        "    assert run([verb, '--help']) == 0"
    )
    assert loaded_after(statement) == set()


@pytest.mark.parametrize("name", [name for name in medmtl.__all__ if name != "__version__"])
def test_every_public_name_is_a_function(name: str) -> None:
    assert callable(getattr(medmtl, name))


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'medmtl' has no attribute 'trian'"):
        medmtl.trian  # type: ignore[attr-defined]  # noqa: B018


def test_the_version_has_three_parts() -> None:
    assert len(medmtl.__version__.split(".")) == 3


def test_the_package_runs_as_a_module(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["medmtl", "--version"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module("medmtl", run_name="__main__")
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"{medmtl.__version__}\n"
