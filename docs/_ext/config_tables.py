"""Tables of every config key, from the JSON Schema that medmtl writes for editors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

HEADER = ("| key | value | default | says |", "|---|---|---|---|")


def config_tables() -> str:
    """A table of the top level and of each section, then one per kind of task."""
    from medmtl.config import json_schema

    schema = json_schema()
    definitions = schema["$defs"]
    parts = [_section("Top level", schema, definitions)]
    for name, path in (
        ("PreparationSettings", "preparation"),
        ("SharingSettings", "backbone.sharing"),
        ("TrainingSettings", "training"),
        ("AugmentationSettings", "training.augmentation"),
    ):
        parts.append(_section(f"`{path}`", definitions[name], definitions))
    for kind in schema["properties"]["tasks"]["additionalProperties"]["anyOf"]:
        if "const" in kind["properties"]["type"]:
            name = kind["properties"]["type"]["const"]
            known = {**definitions, **kind.get("$defs", {})}
            parts.append(_section(f"A task of `type: {name}`", kind, known))
    return "\n\n".join(parts) + "\n"


def _section(title: str, schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    rows = [f"## {title}", "", *HEADER]
    required = schema.get("required", ())
    for key, entry in schema["properties"].items():
        if "const" in entry:
            continue
        default = "must be given" if key in required else _default(entry)
        says = entry.get("description", "") or ("the section below" if "$ref" in entry else "")
        rows.append(f"| `{key}` | {_value(entry, definitions)} | {default} | {_escaped(says)} |")
    return "\n".join(rows)


def _value(entry: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """What may stand there, in words."""
    if "$ref" in entry:
        return _value(definitions[entry["$ref"].rpartition("/")[2]], definitions)
    if "enum" in entry:
        return ", ".join(f"`{value}`" for value in entry["enum"])
    if "anyOf" in entry:
        return " or ".join(dict.fromkeys(_value(option, definitions) for option in entry["anyOf"]))
    if entry.get("type") == "array":
        inner = entry.get("prefixItems") or [entry.get("items", {})]
        size = f"{len(inner)} x " if "prefixItems" in entry else "list of "
        each = _value(inner[0], definitions)
        return size + (f"({each})" if " or " in each else each)
    name = {"object": "section", "string": "text", "boolean": "true, false", "null": "null"}
    text = name.get(entry.get("type", ""), entry.get("type", "any"))
    return text + _limits(entry)


def _limits(entry: Mapping[str, Any]) -> str:
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    found = [f"{sign} {entry[name]:g}" for name, sign in signs.items() if name in entry]
    return f" {', '.join(found)}" if found else ""


def _default(entry: Mapping[str, Any]) -> str:
    if "default" not in entry:
        return ""
    return f"`{json.dumps(entry['default'])}`"


def _escaped(text: str) -> str:
    return text.replace("|", r"\|").replace("*", r"\*")
