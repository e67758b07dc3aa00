"""Names of volumes: series number and what sets a volume apart within its series."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from medmtl.data.dicom.model import VolumePlan


def named(plans: list[VolumePlan], number: Any, taken: set[str]) -> list[VolumePlan]:
    """Plans of one series with names from its number and what sets them apart, unlike those ``taken``."""
    base = f"s{int(number):03d}" if number is not None and number >= 0 else "s"
    telling = [
        key
        for key in dict.fromkeys(key for plan in plans for key in plan.attributes)
        if len({str(plan.attributes.get(key)) for plan in plans}) > 1
    ]
    ranks = {key: sorted({_rankable(plan.attributes.get(key)) for plan in plans}) for key in telling}
    telling = _enough(plans, telling)
    made = []
    for plan in plans:
        words = [base]
        for key in telling:
            value = plan.attributes.get(key)
            if value is not None:
                words.append(_word(key, value, ranks[key].index(_rankable(value))))
        name = wanted = "-".join(words)
        again = 2
        while name in taken:
            name, again = f"{wanted}-{again}", again + 1
        taken.add(name)
        findings = tuple(replace(finding, where=name) for finding in plan.findings)
        made.append(replace(plan, name=name, findings=findings))
    return made


def _enough(plans: list[VolumePlan], telling: list[str]) -> list[str]:
    """The first differences that tell all volumes apart that can be."""
    for count in range(len(telling)):
        seen = {tuple(str(plan.attributes.get(key)) for key in telling[:count]) for plan in plans}
        if len(seen) == len(plans):
            return telling[:count]
    return telling


def _rankable(value: Any) -> tuple[int, float, str]:
    return (0, float(value), "") if isinstance(value, int | float) else (1, 0.0, str(value))


_WORDS = {
    "EchoTime": "echo",
    "EchoNumbers": "echo",
    "DiffusionGradientOrientation": "direction",
    "ImageType": "type",
    "ConvolutionKernel": "kernel",
    "AcquisitionNumber": "acquisition",
    "InversionTime": "ti",
    "StackID": "stack",
}


def _word(key: str, value: Any, rank: int) -> str:
    """A part of a name: the kind of difference, and its rank among the series' volumes."""
    if key == "DiffusionBValue":
        return f"b{round(value)}"
    if key == "ImageType":
        last = str(value).split("\\")
        for letter, word in (("P", "phase"), ("R", "real"), ("I", "imaginary"), ("M", "magnitude")):
            if letter in last or word.upper() in last:
                return word
    return f"{_WORDS.get(key, key.lower())}{rank + 1}"
