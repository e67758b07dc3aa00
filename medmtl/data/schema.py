"""``dataset.yaml``: read strictly, written plainly.

An unknown key, a wrong type or a reference to something that is not there is an error that says where it
stands and what would fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from medmtl.data.columns import UNIT_OF, Column, Cycle, Derived, Frame, Kind, Quantity, Schema
from medmtl.data.problems import Problems
from medmtl.data.strict_yaml import read_yaml
from medmtl.registry import nearest
from medmtl.types import UNLABELLED

VERSION = 1
FILE = "dataset.yaml"

_KEYS_OF_KIND: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"mask": ("labels",), "map": ("unit",), "category": ("classes",), "value": ("unit", "derived")}
)
_KEYS = ("medmtl_dataset", "name", "modality", "channels", "columns", "cycle", "citation", "licence")
_RESERVED = ("case_id", "patient", "split", "image", "frame_ed", "frame_es")
_NAME_HINT = "write it in quotes if YAML takes it for something else, as it does with NO, yes or 1"


def read_schema(root: Path) -> Schema:
    """Reads ``dataset.yaml`` of a dataset folder.

    Args:
        root: the dataset folder.

    Raises:
        DatasetError: the file is missing, is not YAML, or says something that cannot be used.
    """
    problems = Problems(root)
    data = read_yaml(root / FILE, problems)
    problems.raise_if_any()
    schema = parse_schema(data, problems)
    problems.raise_if_any()
    return schema


def parse_schema(data: object, problems: Problems, file: str = FILE) -> Schema:
    """The content of a ``dataset.yaml``, or of another file that says the same.

    Args:
        data: as read from the file.
        problems: takes what cannot be used; the result means nothing where there are any.
        file: name of the file, for messages.
    """
    return _Reader(problems, file).schema(data)


def write_schema(root: Path, schema: Schema) -> None:
    """Writes ``dataset.yaml``; reading it back gives an equal schema."""
    import yaml

    data: dict[str, Any] = {"medmtl_dataset": VERSION, "name": schema.name, "modality": schema.modality}
    data["channels"] = list(schema.channels)
    data["columns"] = {name: column_section(column) for name, column in schema.columns.items()}
    if schema.cycle is not None:
        data["cycle"] = {"mask": schema.cycle.mask, "structure": schema.cycle.structure}
    data |= {key: text for key in ("citation", "licence") if (text := getattr(schema, key))}
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)
    (root / FILE).write_text(text, encoding="utf-8", newline="\n")


def column_section(column: Column) -> dict[str, Any]:
    """A column as ``dataset.yaml`` says it."""
    data: dict[str, Any] = {"kind": column.kind}
    if column.labels:
        data["labels"] = dict(column.labels)
    if column.classes:
        data["classes"] = list(column.classes)
    if column.unit:
        data["unit"] = column.unit
    if column.derived is not None:
        data["derived"] = {key: value for key, value in vars(column.derived).items() if value is not None}
    return data


class _Reader:
    """Turns parsed YAML into a Schema and notes every problem on the way."""

    def __init__(self, problems: Problems, file: str) -> None:
        self.problems = problems
        self.file = file

    def add(self, key: str, text: str) -> None:
        self.problems.add(f"{key}: {text}" if key else text, file=self.file)

    def schema(self, data: object) -> Schema:
        top = self.mapping(
            "", data, allowed=_KEYS, required=("medmtl_dataset", "name", "modality", "channels", "columns")
        )
        if "medmtl_dataset" in top and (top["medmtl_dataset"] is True or top["medmtl_dataset"] != VERSION):
            self.add(
                "medmtl_dataset",
                f"found version {top['medmtl_dataset']!r}, and this medmtl reads {VERSION}; write "
                f"`medmtl_dataset: {VERSION}` or use the medmtl that made the dataset",
            )
        channels = self.names("channels", top.get("channels", ["image"]))
        columns = {}
        for name, spec in self.mapping("columns", top.get("columns", {})).items():
            columns[name] = self.column(name, spec)
            if name in _RESERVED or name in {f"image_{channel}" for channel in channels}:
                self.add(f"columns.{name}", "this name has its own meaning in cases.csv; choose another")
        for column in columns.values():
            if column.derived is not None:
                key = f"columns.{column.name}.derived"
                self.structure(key, column.derived.mask, column.derived.structure, columns)
        cycle = self.cycle(top["cycle"], columns) if top.get("cycle") is not None else None
        texts = {key: self.text(key, top.get(key, "")) for key in ("name", "modality", "citation", "licence")}
        return Schema(
            texts["name"], texts["modality"], channels, columns, cycle, texts["citation"], texts["licence"]
        )

    def column(self, name: str, spec: object) -> Column:
        key = f"columns.{name}"
        given = self.mapping(key, spec, required=("kind",))
        kind = (
            self.choice(f"{key}.kind", given.get("kind"), tuple(_KEYS_OF_KIND)) if "kind" in given else None
        )
        if kind is None:
            return Column(name, "value")
        given = self.mapping(key, spec, allowed=("kind", *_KEYS_OF_KIND[kind]), label=f"a {kind} column")
        labels = self.labels(f"{key}.labels", given.get("labels")) if kind == "mask" else {}
        classes = self.names(f"{key}.classes", given.get("classes")) if kind == "category" else ()
        unit = self.text(f"{key}.unit", given.get("unit", ""))
        derived = (
            self.derived(f"{key}.derived", given["derived"]) if given.get("derived") is not None else None
        )
        if derived is not None:
            expected = UNIT_OF[derived.quantity]
            if unit not in ("", expected):
                self.add(
                    f"{key}.unit",
                    f"found {unit!r}, and {derived.quantity} is measured in {expected!r}; write that",
                )
            unit = expected
        return Column(name, cast(Kind, kind), labels, classes, unit, derived)

    def labels(self, key: str, spec: object) -> dict[str, int]:
        labels = self.mapping(key, {} if spec is None else spec)
        if not labels:
            self.add(key, "a mask column names its structures, such as `labels: {RV: 1, MYO: 2, LV: 3}`")
        for name, value in labels.items():
            if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < UNLABELLED:
                self.add(
                    f"{key}.{name}",
                    f"found {value!r}; a label is a whole number from 1 to {UNLABELLED - 1} "
                    f"(0 is background, {UNLABELLED} means not labelled)",
                )
        values = [value for value in labels.values() if isinstance(value, int)]
        for value in sorted({value for value in values if values.count(value) > 1}):
            same = [name for name, other in labels.items() if other == value]
            self.add(key, f"{' and '.join(same)} have the same value {value}; give each its own")
        return labels

    def derived(self, key: str, spec: object) -> Derived | None:
        given = self.mapping(
            key,
            spec,
            allowed=("quantity", "mask", "structure", "frame"),
            required=("quantity", "mask", "structure"),
        )
        if not {"quantity", "mask", "structure"} <= given.keys():
            return None
        quantity = self.choice(f"{key}.quantity", given["quantity"], tuple(UNIT_OF))
        frame = given.get("frame")
        if frame is not None:
            frame = self.choice(f"{key}.frame", frame, ("ED", "ES"))
            if quantity in ("ejection_fraction", "stroke_volume"):
                self.add(f"{key}.frame", f"{quantity} uses both ED and ES; leave `frame` out")
        mask = self.text(f"{key}.mask", given["mask"])
        structure = self.text(f"{key}.structure", given["structure"])
        if quantity is None:
            return None
        return Derived(cast(Quantity, quantity), mask, structure, cast("Frame | None", frame))

    def cycle(self, spec: object, columns: Mapping[str, Column]) -> Cycle | None:
        given = self.mapping("cycle", spec, allowed=("mask", "structure"), required=("mask", "structure"))
        if len(given) < 2:
            return None
        cycle = Cycle(
            self.text("cycle.mask", given["mask"]), self.text("cycle.structure", given["structure"])
        )
        self.structure("cycle", cycle.mask, cycle.structure, columns)
        return cycle

    def structure(self, key: str, mask: str, structure: str, columns: Mapping[str, Column]) -> None:
        masks = {name: column for name, column in columns.items() if column.kind == "mask"}
        if mask not in masks:
            self.add(f"{key}.mask", f"found {mask!r}, which is not a mask column{nearest(mask, list(masks))}")
        elif structure not in masks[mask].labels:
            hint = nearest(structure, list(masks[mask].labels))
            self.add(f"{key}.structure", f"found {structure!r}, which is not a label of {mask!r}{hint}")

    def mapping(
        self,
        key: str,
        value: object,
        *,
        allowed: tuple[str, ...] | None = None,
        required: tuple[str, ...] = (),
        label: str = "",
    ) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.add(key, f"found {_shown(value)}; it has to be a mapping of `name: value` lines")
            return {}
        known = {}
        for name, item in value.items():
            if not isinstance(name, str):
                self.add(key, f"found the key {name!r}, which is not text; {_NAME_HINT}")
            elif allowed is not None and name not in allowed:
                of = f" of {label}" if label else ""
                self.add(key, f"unknown key {name!r}{of}{nearest(name, list(allowed))}")
            else:
                known[name] = item
        for name in required:
            if name not in value:
                self.add(key, f"the key {name!r} is missing; add it")
        return known

    def names(self, key: str, value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not value:
            self.add(key, f"found {_shown(value)}; it has to be a list of names, such as [a, b]")
            return ()
        for name in value:
            if not isinstance(name, str) or not name.strip():
                self.add(key, f"found {name!r}, which is not a name; {_NAME_HINT}")
            elif value.count(name) > 1:
                self.add(key, f"{name!r} stands there more than once; name each once")
                break
        return tuple(name for name in value if isinstance(name, str))

    def text(self, key: str, value: object) -> str:
        if not isinstance(value, str):
            self.add(key, f"found {_shown(value)}; it has to be text; {_NAME_HINT}")
            return ""
        return value

    def choice(self, key: str, value: object, options: tuple[str, ...]) -> str | None:
        if isinstance(value, str) and value in options:
            return value
        hint = (
            nearest(value, list(options)) if isinstance(value, str) else f"; known are {', '.join(options)}"
        )
        self.add(key, f"found {_shown(value)}, which is not known here{hint}")
        return None


def _shown(value: object) -> str:
    """A value as a message shows it: short, and "nothing" for an empty entry."""
    return "nothing" if value is None else f"{value!r:.80}"
