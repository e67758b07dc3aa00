"""How tasks share a backbone: all one, groups of them one each, or each its own, pulled together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from medmtl.models import NOTHING_SHARED, Backbone, Branches
from medmtl.registry import nearest
from medmtl.strict import parse_options
from medmtl.types import ConfigError


class SharingSettings(BaseModel):
    """Which tasks share which layers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    type: Literal["hard", "groups", "soft"] = Field(
        default="hard",
        description="hard: one backbone for all; groups: one for each group of tasks; soft: one for each "
        "task (or group), whose weights are pulled to their mean",
    )
    groups: tuple[tuple[str, ...], ...] = Field(
        default=(), description="tasks of each group, every task in one; of soft, one group per task"
    )
    shared_levels: int = Field(
        default=0, ge=0, description="groups: finest levels of the encoder that all groups share"
    )
    strength: float = Field(
        default=0.01, gt=0, description="soft: of the penalty on squared distances between backbones"
    )


def parse_sharing(section: Mapping[str, Any] | None, tasks: Sequence[str]) -> SharingSettings | None:
    """What a config says of sharing, complete; None where all tasks share one backbone.

    Raises:
        ConfigError: an unknown key, a wrong value, or groups that do not hold every task once.
    """
    settings = parse_options(SharingSettings, section or {}, "backbone.sharing.")
    if settings.type == "hard":
        if settings.groups or settings.shared_levels:
            raise ConfigError(
                "backbone.sharing: groups and shared_levels do nothing where all tasks share one backbone; "
                "set type: groups, or leave them out"
            )
        return None
    if settings.type == "soft" and settings.shared_levels:
        raise ConfigError(
            "backbone.sharing.shared_levels: soft sharing shares no layer; set type: groups, or leave it out"
        )
    if settings.type == "soft" and not settings.groups:
        settings = settings.model_copy(update={"groups": tuple((task,) for task in tasks)})
    _check_groups(settings.groups, tasks)
    return settings


def _check_groups(groups: Sequence[Sequence[str]], tasks: Sequence[str]) -> None:
    named = [task for group in groups for task in group]
    for task in named:
        if task not in tasks:
            raise ConfigError(
                f"backbone.sharing.groups: {task!r} is no task of this model{nearest(task, list(tasks))}"
            )
        if named.count(task) > 1:
            raise ConfigError(f"backbone.sharing.groups: {task!r} is in two groups; name it once")
    missing = [task for task in tasks if task not in named]
    if missing:
        raise ConfigError(
            f"backbone.sharing.groups: {', '.join(map(repr, missing))} is in no group; put every task in one"
        )
    if not all(groups):
        raise ConfigError("backbone.sharing.groups: a group is empty; remove it")


def shares_weights(settings: SharingSettings | None) -> bool:
    """Whether some weight belongs to two tasks or more."""
    return settings is None or settings.shared_levels > 0 or any(len(group) > 1 for group in settings.groups)


def refuse_comparison(what: str) -> ConfigError:
    """What to say where gradients would be compared and no weight is shared."""
    return ConfigError(f"{what}: {NOTHING_SHARED}")


def build_trunk(build: Callable[[], Backbone], settings: SharingSettings | None) -> Backbone:
    """One backbone, or one for each group."""
    if settings is None:
        return build()
    strength = settings.strength if settings.type == "soft" else 0.0
    return Branches(build, settings.groups, shared_levels=settings.shared_levels, strength=strength)
