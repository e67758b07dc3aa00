"""The cohort of a prediction: how many, which not and why, flags, distributions, and every study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medmtl.data.cells import is_safe_name
from medmtl.inference.measure import FLAGS as FLAG_MEANS
from medmtl.report.blocks import BLANK, Block, Cell, KeyNumber, KeyNumbers, Prose, Section, Table
from medmtl.report.material import Material
from medmtl.report.numbers import as_float, plural, shown, with_unit
from medmtl.report.prediction.cells import (
    FLAGS,
    PAGE,
    Quantity,
    class_columns,
    flags_of,
    page_of,
    quantities,
    short,
    text_of,
)
from medmtl.report.prediction.distributions import distributions
from medmtl.report.remedies import REMEDIES

if TYPE_CHECKING:
    from pandas import DataFrame

MOST_ROWS = 2000
_EXAMPLES = 3
_COLUMNS = 12
_ORDER = {"failed": 0, "refused": 1}


def cohort_sections(material: Material) -> list[Section]:
    """Sections of a prediction's report, whether or not there is a truth."""
    table = material.predictions
    if table is None:
        section = Section("cohort", "Cohort")
        section.missing = "predictions.csv has no row yet: no study has been predicted."
        return [section]
    found = quantities([str(name) for name in table.columns], material.outputs)
    return [
        _numbers(table),
        _reasons(table),
        _flags(table),
        distributions(table, found, class_columns(table, material.outputs)),
        _studies(material, table, found),
    ]


def _numbers(table: DataFrame) -> Section:
    status = table["status"].fillna("ok") if "status" in table.columns else None
    counts: Mapping[str, int] = {} if status is None else status.value_counts().to_dict()
    total, ok = len(table), len(table) if status is None else int(counts.get("ok", 0))
    numbers = [KeyNumber("studies", str(total)), KeyNumber("with a result", str(ok), _share(ok, total))]
    for name, detail in (("refused", "cannot be used"), ("failed", "may succeed another time")):
        numbers.append(KeyNumber(name, str(counts.get(name, 0)), detail))
    if FLAGS in table.columns:
        flagged = sum(bool(flags_of(value)) for value in table[FLAGS])
        numbers.append(KeyNumber("flagged", str(flagged), f"{_share(flagged, ok)} of the results"))
    if "seconds" in table.columns and table["seconds"].notna().any():
        median = float(table["seconds"].median())
        numbers.append(KeyNumber("per study", with_unit(median, "s"), "median; studies overlap"))
    return Section("cohort", "Cohort", [KeyNumbers(numbers)])


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f}\u00a0%" if whole else ""


def _reasons(table: DataFrame) -> Section:
    section = Section("reasons", "Studies without a result")
    left = table[table["status"].isin(tuple(_ORDER))] if "status" in table.columns else table[:0]
    if len(left) == 0:
        section.missing = "Every study has a result."
        return section
    rows = []
    grouped = left.assign(code=left["code"].fillna("")).groupby(["status", "code"])
    for (status, code), group in sorted(grouped, key=lambda entry: -len(entry[1])):
        remedy = REMEDIES.get(code)
        cells = [
            Cell(code or BLANK, header=True),
            Cell(status),
            Cell(str(len(group)), sort=float(len(group))),
            Cell(remedy.means if remedy is not None else text_of(group["message"].iloc[0]) or BLANK),
            Cell(remedy.do if remedy is not None else BLANK),
            Cell(_examples(list(group["case_id"]))),
        ]
        rows.append(cells)
    heads = ["code", "status", "studies", "means", "what to do", "such as"]
    section.blocks.append(Table("Reasons, most frequent first", heads, rows, words=True))
    return section


def _examples(names: Sequence[Any]) -> str:
    first = [short(str(name)) for name in names[:_EXAMPLES]]
    return ", ".join([*first, *(["…"] if len(names) > _EXAMPLES else [])])


def _flags(table: DataFrame) -> Section:
    section = Section("flags", "Quality flags")
    if FLAGS not in table.columns:
        section.missing = "This prediction was made without quality flags."
        return section
    said: dict[str, list[str]] = {}
    for case, value in zip(table["case_id"], table[FLAGS], strict=True):
        for flag in flags_of(value):
            said.setdefault(flag, []).append(str(case))
    results = int((table["status"] == "ok").sum()) if "status" in table.columns else len(table)
    if not said:
        section.missing = f"No flag was raised on {plural(results, 'result')}."
        return section
    rows = [
        [
            Cell(flag, header=True),
            Cell(str(len(cases)), sort=float(len(cases))),
            Cell(_share(len(cases), results)),
            Cell(FLAG_MEANS.get(flag, BLANK)),
            Cell(_examples(cases)),
        ]
        for flag, cases in sorted(said.items(), key=lambda entry: -len(entry[1]))
    ]
    reading = (
        "A flagged result is kept. The flag says what to look at first; the docs say what each one means."
    )
    heads = ["flag", "studies", "share", "means", "such as"]
    section.blocks.append(Table("Flags, most frequent first", heads, rows, reading=reading, words=True))
    return section


def _studies(material: Material, table: DataFrame, found: Sequence[Quantity]) -> Section:
    section = Section("studies", "Studies")
    classes = class_columns(table, material.outputs)
    shown_quantities = found[: max(_COLUMNS - len(classes), 1)]
    ordered = _by_need(table)
    rows = [
        [Cell(str(number), sort=float(number)), *_row(material, entry, classes, shown_quantities)]
        for number, entry in enumerate(ordered.head(MOST_ROWS).to_dict("records"), start=1)
    ]
    heads = ["no.", "study", "status", "flags", *classes, *(quantity.label for quantity in shown_quantities)]
    reading = (
        "Studies that need a look come first: failed, refused, flagged. Click a column's head to sort by it. "
        "Values come from the masks; the small number is what a head says of the same quantity."
    )
    blocks: list[Block] = [Table("Studies", heads, rows, reading=reading, sortable=True, compact=True)]
    if len(table) > MOST_ROWS:
        blocks.insert(
            0, Prose(f"The first {MOST_ROWS} of {len(table)} are listed; predictions.csv holds all.")
        )
    section.blocks.extend(blocks)
    return section


def _by_need(table: DataFrame) -> DataFrame:
    """Failed, refused, flagged, then the rest; each as they stand in the table."""
    status = table["status"] if "status" in table.columns else table["case_id"].map(lambda _: "ok")
    flagged = table[FLAGS].map(lambda value: bool(flags_of(value))) if FLAGS in table.columns else False
    need = status.map(_ORDER).fillna(3).where(~((status == "ok") & flagged), 2)
    return table.loc[need.sort_values(kind="stable").index]


def _row(
    material: Material, entry: Mapping[str, Any], classes: Mapping[str, str], found: Sequence[Quantity]
) -> list[Cell]:
    case_id, status = str(entry["case_id"]), text_of(entry.get("status")) or "ok"
    has_page = is_safe_name(case_id) and (material.folder / case_id / PAGE).is_file()
    note, flags = text_of(entry.get("code")), flags_of(entry.get(FLAGS))
    cells = [
        Cell(case_id, header=True, href=page_of(case_id) if has_page else ""),
        Cell(status, note=note, flag=status != "ok"),
        Cell(str(len(flags)) if flags else BLANK, ", ".join(flags), sort=float(len(flags)), flag=bool(flags)),
    ]
    for task, column in classes.items():
        label = text_of(entry.get(column))
        chance = as_float(entry.get(f"{task}.probability.{label}"))
        cells.append(Cell(label or BLANK, note=f"p = {chance:.2f}" if chance == chance else ""))
    for quantity in found:
        values = {column.from_masks: as_float(entry.get(column.header)) for column in quantity.columns}
        main = values.get(True, values.get(False, float("nan")))
        other = values[False] if len(values) == 2 else float("nan")
        cells.append(Cell(shown(main, quantity.unit), note=_number(other, quantity.unit), sort=main))
    return cells


def _number(value: float, unit: str) -> str:
    text = shown(value, unit)
    return "" if text == BLANK else text
