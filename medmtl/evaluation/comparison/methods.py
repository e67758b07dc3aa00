"""What is compared: weightings by name, with options in parentheses, as YAML mappings, or all of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from medmtl.strict import load_yaml, yaml_problem
from medmtl.types import ConfigError
from medmtl.weighting import WEIGHTINGS, build_weighting
from medmtl.weighting._torchjd import TorchJDWeighting

SINGLE = "single-task"
"""Name of the networks that learn one task each."""
ALL = "all"
USUAL: Mapping[str, Mapping[str, Any]] = {"uw-so": {"temperature": 20.0}}
"""Options of methods that cannot be built from their name alone, where nobody gives any."""

_ITEM = re.compile(r"(?P<type>[^(){}\s]+)\s*(?:\((?P<options>.*)\))?", re.DOTALL)
_OPENING, _CLOSING = "([{", ")]}"


@dataclass(frozen=True)
class Method:
    """One way of weighting tasks.

    Attributes:
        name: as it was asked for; the name in every table.
        section: ``type`` and options, as in a config.
    """

    name: str
    section: Mapping[str, Any]

    @property
    def folder(self) -> str:
        """A name for its folder: readable, and another for every method."""
        plain = re.sub(r"[^A-Za-z0-9.=-]+", "-", self.name).strip("-.")
        if plain == self.name and len(plain) <= 60:
            return plain
        return f"{plain[:50]}-{hashlib.sha256(self.name.encode()).hexdigest()[:6]}"


def parse_methods(
    asked: str | Sequence[str | Mapping[str, Any]],
    tasks: Sequence[str],
    own: Mapping[str, Any] | None = None,
) -> tuple[Method, ...]:
    """Methods from a text such as ``ew,uw-so(temperature=5),{type: dwa, temperature: 2}``.

    Args:
        asked: the text; or names, texts and mappings one by one. ``all`` means every weighting that can be
            built from its name, without an optional package.
        tasks: names of the tasks.
        own: the config's own weighting; its options go to the method of its type where that has none.

    Raises:
        ConfigError: an unknown name, options that cannot be read, nothing at all, or a method named twice.
    """
    check_tasks(tasks)
    items = list(_split(asked)) if isinstance(asked, str) else list(asked)
    methods: list[Method] = []
    for item in items:
        if item == ALL:
            methods += [_with_options(name, {}, own or {}) for name in without_extras(tasks)]
        elif isinstance(item, str):
            methods += [_parse(part, own or {}) for part in _split(item)]
        else:
            methods.append(_from_mapping(dict(item), own or {}))
    if not methods:
        raise ConfigError(f"--weightings: names no weighting; give some of {', '.join(WEIGHTINGS)}, or all")
    seen: set[str] = set()
    for method in methods:
        if method.name in seen:
            raise ConfigError(f"--weightings: {method.name} is named twice; name it once")
        seen.add(method.name)
        try:
            build_weighting(str(method.section["type"]), tasks, **options_of(method.section))
        except ConfigError as error:
            raise ConfigError(f"--weightings {method.name}: {error}") from error
    return tuple(methods)


def check_tasks(tasks: Sequence[str]) -> None:
    """Refuse to compare weightings of one task.

    Raises:
        ConfigError: so.
    """
    if len(tasks) < 2:
        raise ConfigError(
            "the config has one task only, so there is nothing to weigh and nothing to compare; name at "
            "least two tasks, or train it with `medmtl train`"
        )


def options_of(section: Mapping[str, Any]) -> dict[str, Any]:
    """A weighting's section without its ``type``."""
    return {key: value for key, value in section.items() if key != "type"}


def without_extras(tasks: Sequence[str]) -> list[str]:
    """Weightings that can be built from their name alone and need no optional package, in order."""
    found = []
    for name in WEIGHTINGS:
        if issubclass(WEIGHTINGS.get(name), TorchJDWeighting):
            continue
        try:
            build_weighting(name, tasks, **USUAL.get(name, {}))
        except ConfigError:
            continue
        found.append(name)
    return found


def _split(text: str) -> Iterator[str]:
    """Parts between commas that stand in no bracket."""
    depth, part = 0, ""
    for letter in text:
        depth += (letter in _OPENING) - (letter in _CLOSING)
        if depth < 0:
            break
        if letter == "," and depth == 0:
            if part.strip():
                yield part.strip()
            part = ""
        else:
            part += letter
    if depth:
        raise ConfigError(f"--weightings {text!r}: a bracket is not closed, or one too many is")
    if part.strip():
        yield part.strip()


def _parse(item: str, own: Mapping[str, Any]) -> Method:
    if item.startswith("{"):
        found = _yaml(item, item)
        if not isinstance(found, Mapping):
            raise ConfigError(f"--weightings {item!r}: is no mapping; write {{type: uw-so, temperature: 5}}")
        return _from_mapping(dict(found), own)
    match = _ITEM.fullmatch(item)
    if match is None:
        raise ConfigError(f"--weightings {item!r}: write a name, or name(option=value, ...)")
    options: dict[str, Any] = {}
    for part in _split(match["options"] or ""):
        key, separator, value = part.partition("=")
        if not (separator and key.strip()):
            raise ConfigError(f"--weightings {item!r}: {part!r} is no option; write option=value")
        if key.strip() in options:
            raise ConfigError(f"--weightings {item!r}: the option {key.strip()!r} stands there twice")
        options[key.strip()] = _yaml(value, item)
    return _with_options(match["type"], options, own)


def _from_mapping(section: dict[str, Any], own: Mapping[str, Any]) -> Method:
    kind = section.pop("type", None)
    if not isinstance(kind, str):
        raise ConfigError(f"--weightings: a mapping needs `type`, one of {', '.join(WEIGHTINGS)}")
    return _with_options(kind, section, own)


def _with_options(kind: str, options: Mapping[str, Any], own: Mapping[str, Any]) -> Method:
    try:
        WEIGHTINGS.get(kind)
    except ConfigError as error:
        raise ConfigError(f"--weightings: {error}") from error
    said = ",".join(f"{key}={_shown(value)}" for key, value in options.items())
    if not options:
        options = options_of(own) if own.get("type") == kind else USUAL.get(kind, {})
    return Method(f"{kind}({said})" if said else kind, {"type": kind, **options})


def _shown(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000)
    return text.removesuffix("...\n").strip()


def _yaml(text: str, item: str) -> Any:
    try:
        return load_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--weightings {item!r}: is not valid YAML: {yaml_problem(error)}") from error
