"""Classes and structures that a training cannot learn or judge, as nobody among its cases has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medmtl.data.dataset import Column
from medmtl.data.prepare import PreparedCase


def absent_classes(columns: Mapping[str, Column], cases: Sequence[PreparedCase], what: str) -> list[str]:
    """A sentence for each column of which some class or structure is in none of the cases.

    Columns without any label are left out: that is an error, or no news.

    Args:
        columns: the label columns of the tasks.
        cases: prepared cases of one split.
        what: which these are, such as ``training cases``.
    """
    sentences = []
    for name, column in columns.items():
        if column.kind == "category":
            labelled = [case for case in cases if name in case.values]
            seen = {column.classes[int(case.values[name])] for case in labelled}
            known: Sequence[str] = column.classes
        elif column.kind == "mask":
            labelled = [case for case in cases if any(case.labelled.get(name, ()))]
            values = {value for case in labelled for value in _values(case, name)}
            seen = {structure for structure, value in column.labels.items() if value in values}
            known = tuple(column.labels)
        else:
            continue
        absent = [label for label in known if label not in seen]
        if labelled and absent:
            has = "has" if column.kind == "mask" else "is"
            sentences.append(
                f"{name}: none of the {len(labelled)} labelled {what} {has} {' or '.join(absent)}"
            )
    return sentences


def _values(case: PreparedCase, mask: str) -> set[int]:
    """Values of a mask that are somewhere in a case, from its index of labelled voxels."""
    place = sorted(case.masks).index(mask)
    numbers = case.foreground[:, 0].unique().tolist()
    return {number % 256 for number in numbers if number // 256 == place}
