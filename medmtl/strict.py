"""Strict reading of what people write: YAML without surprises, options whose every problem is a sentence."""

from __future__ import annotations

import inspect
import json
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from medmtl.registry import nearest
from medmtl.types import ConfigError

Options = TypeVar("Options", bound=BaseModel)


class StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key that stands twice in one mapping, and takes ``1e-3`` for a number.

    PyYAML alone keeps the last of two keys silently, and reads ``1e-3`` as text (YAML 1.1).
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        """The mapping, when no key stands in it twice."""
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands there twice; keep one", key_node.start_mark
                )
            if isinstance(key, str):
                seen.add(key)
        return super().construct_mapping(node, deep=deep)


StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def load_yaml(text: str) -> Any:
    """The content of a YAML text.

    Raises:
        yaml.YAMLError: it is not YAML, or a key stands twice in one mapping.
    """
    return yaml.load(text, Loader=StrictLoader)  # noqa: S506 - a SafeLoader


def yaml_problem(error: yaml.YAMLError) -> str:
    """What a YAML error says, in one line, with the line where it was found."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())
    where = "" if error.problem_mark is None else f"line {error.problem_mark.line + 1}: "
    return f"{where}{error.problem or error.context}"


def parse_options(model: type[Options], found: Mapping[str, Any], where: str) -> Options:
    """Plain data as a pydantic model, without conversions: text is no number, and neither is yes or no.

    Args:
        model: forbids unknown keys.
        found: what was read.
        where: what stands before the key in every sentence, such as ``"acdc.yaml: "`` or ``"tasks.t1."``.

    Raises:
        ConfigError: one line per problem.
    """
    try:
        return model.model_validate_json(json.dumps(found, default=str), strict=True)
    except ValidationError as error:
        lines = [_sentence(where, problem, model) for problem in error.errors()]
    raise ConfigError("\n".join(lines))


def options_model(member: type, *, leave_out: Sequence[str] = (), complete: bool = True) -> type[BaseModel]:
    """A strict model of a class's constructor arguments.

    Args:
        member: its ``__init__`` has annotations; ``**options`` lets every key pass.
        leave_out: arguments that medmtl itself gives.
        complete: arguments without a default must be there.
    """
    extra: Literal["allow", "forbid"] = "forbid"
    constructor: Any = getattr(member, "__init__")  # noqa: B009 - inherited ones too
    try:
        hints = typing.get_type_hints(constructor, include_extras=True)
    except NameError:  # annotations whose names are imported for type checkers only
        hints = {}
    fields: dict[str, Any] = {}
    for name, parameter in list(inspect.signature(constructor).parameters.items())[1:]:
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            extra = "allow"
        elif name not in leave_out and parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
            default = parameter.default
            if default is inspect.Parameter.empty:
                default = ... if complete else None
            fields[name] = (hints.get(name, Any), default)
    return create_model(
        member.__name__, __config__=ConfigDict(extra=extra, arbitrary_types_allowed=True), **fields
    )


def _sentence(where: str, problem: Mapping[str, Any], model: type[BaseModel]) -> str:
    path = [str(part) for part in problem["loc"] if part != "[key]"]
    place = where + ".".join(path) if path else where.rstrip(".: ")
    if problem["type"] == "extra_forbidden":
        return f"{place}: unknown key{nearest(path[-1], _known(model, path[:-1]))}"
    if problem["type"] == "missing":
        return f"{place}: is missing; add it"
    found = f"{problem['input']!r:.80}"
    if problem["type"] in ("dict_type", "model_type", "model_attributes_type"):
        return f"{place}: must be a mapping of `key: value` lines, found {found}"
    message = problem["msg"].replace("Input should be", "must be")
    return f"{place}: {message[0].lower()}{message[1:]}, found {found}"


def _known(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    """Keys that are known at a place below a model."""
    for part in path:
        annotation = model.model_fields[part].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)
