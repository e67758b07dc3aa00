"""The selection rule: which volume of a study a model wants, as plain data in ``model.yaml``.

A rule says for every channel: modality, orientation, numbers of frames and slices, and patterns of the
series' description. Patterns are words or globs (``*`` and ``?``) in any case; nothing in a rule is executed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

from medmtl.registry import nearest
from medmtl.types import ConfigError

Orientation = Literal["any", "axial", "coronal", "sagittal", "short-axis"]
Range = tuple[int | None, int | None]
_MODALITY = re.compile(r"[A-Z]{2,16}")
_COUNT = re.compile(r"\d{1,6}")


@dataclass(frozen=True)
class ChannelRule:
    """What one channel has to be.

    Attributes:
        modality: DICOM modalities, any of which will do; empty: any.
        orientation: of the slices, by their normal.
        frames: fewest and most frames; None leaves an end open.
        min_slices: fewest slices.
        description: patterns, one of which has to fit the series' description; empty: anything fits.
        exclude: patterns, none of which may fit it.
    """

    modality: tuple[str, ...] = ()
    orientation: Orientation = "any"
    frames: Range = (None, None)
    min_slices: int = 2
    description: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def as_plain(self) -> dict[str, Any]:
        """Plain data for ``model.yaml``."""
        plain = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}


KEYS = tuple(entry.name for entry in fields(ChannelRule))
"""What can be asked of a channel."""


@dataclass(frozen=True)
class Rule:
    """What every channel has to be, in the model's order.

    Attributes:
        channels: by name.
    """

    channels: Mapping[str, ChannelRule] = field(default_factory=dict)

    def as_plain(self) -> dict[str, Any]:
        """Plain data for ``model.yaml``."""
        return {name: channel.as_plain() for name, channel in self.channels.items()}

    def check_distinct(self) -> None:
        """Refuse channels that would all take the same volume.

        Raises:
            ConfigError: two channels ask for the same.
        """
        seen: dict[ChannelRule, str] = {}
        for name, channel in self.channels.items():
            if channel in seen:
                raise ConfigError(
                    f"select: the channels {seen[channel]} and {name} ask for the same volume; tell them "
                    f"apart, as in --select '{seen[channel]}.description=...,{name}.description=...'"
                )
            seen[channel] = name


def parse_rule(found: object, channels: Sequence[str], base: Rule | None = None, where: str = "") -> Rule:
    """A ``select:`` section of a config or of ``model.yaml``.

    Its keys hold for all channels; below a channel's name stand those that hold for it alone.

    Args:
        found: what was read.
        channels: the model's.
        base: what holds where the section says nothing; anything goes without it.
        where: what stands before the key in messages, such as ``acdc.yaml: ``.

    Raises:
        ConfigError: an unknown key or a value that cannot be used; says which would fit.
    """
    rules = dict(base.channels) if base is not None else {}
    rules = {name: rules.get(name, ChannelRule()) for name in channels}
    if found is None:
        return Rule(rules)
    common, own = split_by_channel(found, channels, where)
    for name in channels:
        told = {**common, **own.get(name, {})}
        parsed = {key: _value(key, value, f"{where}select.{key}") for key, value in told.items()}
        rules[name] = replace(rules[name], **parsed)
    return Rule(rules)


def split_by_channel(
    found: object, channels: Sequence[str], where: str = ""
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """What a section says of all channels, and of single ones."""
    if not isinstance(found, Mapping):
        raise ConfigError(f"{where}select: must be a mapping of `key: value` lines, found {found!r:.80}")
    common: dict[str, Any] = {}
    own: dict[str, dict[str, Any]] = {}
    for key, value in found.items():
        if key in channels and isinstance(value, Mapping):
            unknown = next((inner for inner in value if inner not in KEYS), None)
            if unknown is not None:
                hint = nearest(str(unknown), list(KEYS))
                raise ConfigError(f"{where}select.{key}.{unknown}: unknown key{hint}")
            own[key] = dict(value)
        elif key in KEYS:
            common[key] = value
        else:
            hint = nearest(str(key), [*KEYS, *channels])
            raise ConfigError(f"{where}select.{key}: unknown key{hint}")
    return common, own


def parse_select(texts: Sequence[str], rule: Rule) -> Rule:
    """A rule with what ``--select`` says instead.

    Args:
        texts: such as ``"modality=MR,frames=10-40,description=*SAX*"`` or ``"pet.modality=PT"``; ``|`` stands
            between values of which one has to fit, and an empty value asks for nothing.
        rule: the model's.

    Raises:
        ConfigError: a part is no condition.
    """
    section: dict[str, Any] = {}
    for part in (part.strip() for text in texts for part in text.split(",")):
        if not part:
            continue
        name, equals, value = (word.strip() for word in part.partition("="))
        channel, dot, key = name.rpartition(".")
        if not equals or key not in KEYS or (dot and channel not in rule.channels):
            known = [*KEYS, *(f"{c}.{k}" for c in rule.channels for k in KEYS)]
            hint = nearest(name, known) if equals else "; write it as description=*SAX*"
            raise ConfigError(f"--select: {part!r} is no condition{hint}")
        target = section.setdefault(channel, {}) if dot else section
        if key in target:
            raise ConfigError(f"--select: {name} stands there twice; put | between values")
        target[key] = _from_text(key, value)
    return parse_rule(section, tuple(rule.channels), rule, "--")


def _from_text(key: str, text: str) -> Any:
    if key == "frames":
        low, dash, high = text.partition("-")
        ends = [low, high if dash else low]
        if not all(end == "" or _COUNT.fullmatch(end) for end in ends):
            raise ConfigError(f"--select: frames={text!r} is no range; write 10-40, 10-, -40 or 1")
        return [int(end) if end else None for end in ends]
    if key == "min_slices":
        if not _COUNT.fullmatch(text):
            raise ConfigError(f"--select: min_slices={text!r} is no whole number")
        return int(text)
    if key == "orientation":
        return text
    return [word for word in text.split("|") if word]


def _value(key: str, value: Any, where: str) -> Any:
    """One value of a rule in its type."""
    if key == "orientation":
        if value not in get_args(Orientation):
            hint = nearest(str(value), list(get_args(Orientation)))
            raise ConfigError(f"{where}: {value!r} is not known{hint}")
        return value
    if key == "min_slices":
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{where}: must be a whole number of at least 1, found {value!r}")
        return value
    if key == "frames":
        return _range(value, where)
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not all(isinstance(w, str) and w for w in words):
        raise ConfigError(f"{where}: must be a list of texts, found {value!r:.80}")
    if key == "modality":
        words = [word.upper() for word in words]
        if bad := next((word for word in words if not _MODALITY.fullmatch(word)), None):
            raise ConfigError(f"{where}: {bad!r} is no DICOM modality; write MR, CT or PT, say")
    return tuple(words)


def _range(value: Any, where: str) -> Range:
    ends = [value, value] if isinstance(value, int) else value
    if not isinstance(ends, list | tuple) or len(ends) != 2:
        raise ConfigError(f"{where}: must be [fewest, most], null leaving an end open, found {value!r:.80}")
    for end in ends:
        if end is not None and (isinstance(end, bool) or not isinstance(end, int) or end < 1):
            raise ConfigError(f"{where}: must be [fewest, most] of at least 1, found {value!r:.80}")
    low, high = ends
    if low is not None and high is not None and low > high:
        raise ConfigError(f"{where}: the fewest ({low}) are more than the most ({high})")
    return (low, high)
