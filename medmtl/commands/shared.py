"""What several verbs share: options, progress, and how tables and lists of refused cases are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

Config = Annotated[Path, typer.Argument(help="Experiment config (YAML).")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key=value on top of the config.")]
DatasetFolder = Annotated[Path, typer.Argument(help="Dataset folder.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
ConfigDevice = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N; the config's by default.")]
Mirror = Annotated[bool, typer.Option("--mirror", help="Average dense tasks over mirror images.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for programs.")]

DICOM = "Of DICOM studies"
"""Panel of options that other data does not need."""
UsageError: Any = typer.BadParameter.__mro__[2]
"""Base of all that a wrong call raises; typer has it from click, or carries its own, and does not name it."""
_WIDTH = 140
"""Columns of a table that is not written to a terminal."""


def exit_with_list(lines: list[str], what: str, *, unit: str = "case", quiet: bool = False) -> None:
    """Exit 1 with the cases, or other units, that did not make it; return when there are none."""
    if not lines:
        return
    if not quiet:
        count = f"1 {unit} was" if len(lines) == 1 else f"{len(lines)} {unit}s were"
        typer.echo(f"\n{count} {what}:", err=True)
        for line in lines:
            typer.echo(f"  {line}", err=True)
    raise typer.Exit(1)


def print_tables(tables: Iterable[RenderableType]) -> None:
    """Print tables, wide where there is no terminal to fit."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    for table in tables:
        console.print(table)


@contextmanager
def progress_bars(*, quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """Progress bars on a terminal; nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<9}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bars: dict[str, TaskID] = {}
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as shown:

        def update(what: str, done: int, total: int) -> None:
            if what not in bars or (
                shown.tasks[bars[what]].finished and total != shown.tasks[bars[what]].total
            ):
                bars[what] = shown.add_task(what, total=total)
            shown.update(bars[what], completed=done, total=total)

        yield update
