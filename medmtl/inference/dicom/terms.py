"""Coded terms of a model: its own first, the built-in ones else.

A model's ``codes:`` section overrides the built-in terms, by name::

    codes:
      structures:
        LV: {type: {value: "87878005", scheme: SCT, meaning: Left ventricle}, color: [230, 25, 75]}
      values:
        LV_EF: {code: {value: "8811-2", scheme: LN, meaning: ...}, unit: "%"}
      classes:
        disease: {HCM: {value: "233873004", scheme: SCT, meaning: Hypertrophic cardiomyopathy}}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from medmtl.data.dicom.seg import Code
from medmtl.inference.dicom.codes import COLORS, Evaluation, Measurement, Segment
from medmtl.inference.dicom.concepts import (
    FROM_HEAD,
    FROM_MASKS,
    SUM_OF_VOXELS,
    own_code,
    structure_concept,
    unit_code,
    value_concept,
)
from medmtl.types import ConfigError


@dataclass(frozen=True)
class Codes:
    """Terms of a model: its own first, the built-in ones else.

    Attributes:
        structures: sections by structure name.
        values: sections by value name.
        classes: sections by task name.
    """

    structures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    classes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def from_plain(cls, section: Any) -> Codes:
        """From a model's or a config's ``codes:`` section; None and empty are the built-in terms.

        Raises:
            ConfigError: not such a section.
        """
        section = section or {}
        if not isinstance(section, Mapping) or set(section) - {"structures", "values", "classes"}:
            raise ConfigError("codes: has to be a section of structures, values and classes")
        for name, inner in section.items():
            if not isinstance(inner, Mapping) or not all(isinstance(of, Mapping) for of in inner.values()):
                raise ConfigError(f"codes.{name}: has to be a section per name")
        made = cls(**{name: {str(key): of for key, of in inner.items()} for name, inner in section.items()})
        made.segments(dict.fromkeys(made.structures, 1))  # names what is wrong before anything runs
        for name in made.values:
            made.measurement(name, 0.0, "")
        for name, of in made.classes.items():
            made.evaluation(name, "", dict.fromkeys(set(of) - {"code"}, 0.0))
        return made

    def segments(self, labels: Mapping[str, int], inside: str = "") -> tuple[Segment, ...]:
        """Segments of a label array, in the order of their values.

        Args:
            labels: voxel value by name; 0 is background and left out.
            inside: the structure that all lie in, where they are tissues of one.
        """
        site = self._structure(inside)[1] if inside else None
        made = []
        for place, (name, number) in enumerate(sorted(labels.items(), key=lambda item: item[1])):
            if number == 0:
                continue
            category, code = self._structure(name, inside)
            color = self.structures.get(name, {}).get("color", COLORS[place % len(COLORS)])
            made.append(Segment(int(number), name, code, category, site, _color(name, color)))
        return tuple(made)

    def measurement(
        self,
        name: str,
        value: float,
        unit: str,
        *,
        modality: str = "",
        frame: int | None = None,
        segment: int | None = None,
        group: str = "",
        from_masks: bool = False,
    ) -> Measurement:
        """A value of the table with its codes.

        Args:
            name: such as ``LV_EF``.
            value: the number.
            unit: as in the table, such as ``mL``.
            modality: of the images; some codes name it.
            frame: see `Measurement`.
            segment: see `Measurement`.
            group: see `Measurement`.
            from_masks: found from the segmented voxels, not by a regression head.
        """
        code, site, phase = value_concept(name, modality)
        section = self.values.get(name, {})
        code = _code(f"codes.values.{name}.code", section.get("code")) or code
        site = _code(f"codes.values.{name}.site", section.get("site")) or site
        volume = unit_code(section.get("unit", unit)).value == "mL"
        of_masks = SUM_OF_VOXELS if volume and phase else FROM_MASKS
        method = of_masks if from_masks else FROM_HEAD
        return Measurement(
            name=name,
            value=float(value),
            unit=unit_code(section.get("unit", unit)),
            code=code,
            site=site,
            method=method,
            phase=phase,
            frame=frame,
            segment=segment,
            group=group,
        )

    def evaluation(
        self, name: str, value: str, probabilities: Mapping[str, float] | None = None
    ) -> Evaluation:
        """The class of a classification task with its codes."""
        section = self.classes.get(name, {})
        codes = {of: self._class(name, of) for of in {value, *(probabilities or {})} if of}
        code = _code(f"codes.classes.{name}.code", section.get("code")) or own_code(name)
        chosen = codes.get(value, own_code(value or "none"))
        return Evaluation(name, value, code, chosen, dict(probabilities or {}), codes)

    def _structure(self, name: str, inside: str = "") -> tuple[Code, Code]:
        category, code = structure_concept(name, inside)
        section, where = self.structures.get(name, {}), f"codes.structures.{name}"
        return (
            _code(f"{where}.category", section.get("category")) or category,
            _code(f"{where}.type", section.get("type")) or code,
        )

    def _class(self, task: str, name: str) -> Code:
        found = _code(f"codes.classes.{task}.{name}", self.classes.get(task, {}).get(name))
        return found or own_code(name)


def plain_codes(
    structures: Mapping[str, str], values: Iterable[str] = (), modality: str = ""
) -> dict[str, dict[str, dict[str, Any]]]:
    """The built-in terms of some names, as a model's ``codes:`` section shows and overrides them.

    Args:
        structures: names, each with that of the structure it lies inside, or blank.
        values: names such as ``LV_EF``.
        modality: of the images.
    """
    section: dict[str, dict[str, dict[str, Any]]] = {"structures": {}, "values": {}}
    for name, inside in structures.items():
        category, code = structure_concept(name, inside)
        section["structures"][name] = {"category": _as_plain(category), "type": _as_plain(code)}
    for name in values:
        code, site, _ = value_concept(name, modality)
        section["values"][name] = {"code": _as_plain(code)} | ({"site": _as_plain(site)} if site else {})
    return section


def _as_plain(code: Code) -> dict[str, str]:
    return {"value": code.value, "scheme": code.scheme, "meaning": code.meaning}


def _code(where: str, section: Any) -> Code | None:
    if section is None:
        return None
    if not isinstance(section, Mapping) or set(section) != {"value", "scheme", "meaning"}:
        raise ConfigError(f"{where}: has to be a code of value, scheme and meaning, and is {section!r}")
    value, scheme, meaning = (str(section[key]).strip() for key in ("value", "scheme", "meaning"))
    if not value or not meaning or not 0 < len(scheme) <= 16 or len(meaning) > 64 or "\\" in value + meaning:
        raise ConfigError(f"{where}: value, scheme (16 characters) and meaning (64) have to say something")
    return Code(value, scheme, meaning)


def _color(name: str, color: Any) -> tuple[int, int, int]:
    if len(color) != 3 or not all(isinstance(part, int) and 0 <= part <= 255 for part in color):
        raise ConfigError(f"codes.structures.{name}.color: has to be three numbers from 0 to 255")
    red, green, blue = color
    return (red, green, blue)
