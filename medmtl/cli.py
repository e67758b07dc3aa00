"""The command line. Nothing heavy is imported before a verb runs, so that ``--help`` answers at once."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

from medmtl._version import __version__
from medmtl.commands.data import ingest, inspect
from medmtl.commands.evaluation import demo, evaluate, report
from medmtl.commands.prediction import predict
from medmtl.commands.shared import UsageError
from medmtl.commands.training import import_model, plan, schema, train
from medmtl.commands.weights import compare, search
from medmtl.types import MedmtlError, RankError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

STOPPED = 130
"""Exit code after Ctrl-C, as shells have it."""


def main() -> None:
    """Run the command line; an error that a user can mend is one sentence and an exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """The exit code of a call: 0 all done, 1 some cases were refused or failed, 2 nothing could be done."""
    try:
        with _warnings():
            code = int(app(list(arguments), prog_name="medmtl", standalone_mode=False) or 0)
    except typer.Abort:
        code = STOPPED
    except MedmtlError as error:
        if not (isinstance(error, RankError) and error.told):
            typer.echo(f"error: {error}", err=True)
        return error.exit_code
    except UsageError as error:
        error.show()
        return 2
    except OSError as error:
        typer.echo(f"error: {error.filename or 'a file'}: {error.strerror or error}", err=True)
        return 2
    if code == STOPPED:
        typer.echo("stopped", err=True)
    return code


@contextmanager
def _warnings() -> Iterator[None]:
    """Show warnings on stderr while a verb runs."""
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logger = logging.getLogger("medmtl")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Multi-task learning on medical volumes: one network, many tasks, weights that balance themselves."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


# in the order in which the help lists them
app.command()(demo)
app.command()(inspect)
app.command()(ingest)
app.command()(plan)
app.command()(train)
app.command("import")(import_model)
app.command()(evaluate)
app.command()(predict)
app.command()(compare)
app.command()(search)
app.command()(report)
app.command()(schema)
