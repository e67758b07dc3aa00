"""A section per verb of the command line, from the program itself."""

from __future__ import annotations

import re
from typing import Any


def command_tables() -> str:
    """What each verb takes: arguments first, then options with their defaults."""
    import typer

    from medmtl.cli import app

    verbs: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return "\n\n".join(_verb(name, command) for name, command in verbs.items()) + "\n"


def _verb(name: str, command: Any) -> str:
    says = command.help.partition("[dim]")[0]
    examples = [
        " ".join(found.split()) for found in re.findall(r"\[dim\](.*?)\[/dim\]", command.help, re.DOTALL)
    ]
    parts = [f"### `medmtl {name}`", "", says.strip(), ""]
    if examples:
        parts += ["```console", *(f"$ {example}" for example in examples), "```", ""]
    parts += ["| argument | default | says |", "|---|---|---|"]
    for parameter in sorted(command.params, key=lambda p: p.param_type_name != "argument"):
        if parameter.name == "help":
            continue
        option = parameter.param_type_name == "option"
        shown = ", ".join(parameter.opts) if option else parameter.name.upper()
        parts.append(f"| `{shown}` | {_default(parameter)} | {(parameter.help or '').replace('|', '')} |")
    return "\n".join(parts)


def _default(parameter: Any) -> str:
    if parameter.required:
        return "must be given"
    if parameter.default is None or parameter.default is False or parameter.default in ("", []):
        return ""
    return f"`{parameter.default}`"
