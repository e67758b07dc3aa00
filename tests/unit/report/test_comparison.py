"""The report of a comparison: what it draws, what it says where there is little, and what it leaves out."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from medmtl.report import build_report
from medmtl.report.comparison import console_table
from medmtl.report.comparison.embedding import components
from medmtl.report.comparison.material import SINGLE, gather_comparison
from medmtl.report.comparison.ranking import ordered, signed
from medmtl.report.comparison.styles import MOST, short, shown_methods, style_of
from medmtl.report.read import read_table
from medmtl.types import OutputError

METRICS = {"anatomy": "dice", "disease": "balanced_accuracy"}
STEPS = 12


def spread(*values: float) -> dict[str, Any]:
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return {"mean": None, "sd": None, "low": None, "high": None, "n": 0}
    mean, sd = float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else None
    half = None if sd is None else 4 * sd
    low, high = (None, None) if half is None else (mean - half, mean + half)
    return {"mean": mean, "sd": sd, "low": low, "high": high, "n": len(known)}


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(dict.fromkeys(key for row in rows for key in row)), restval="")
        writer.writeheader()
        writer.writerows([{k: "" if v != v else v for k, v in row.items()} for row in rows])


def write_run(place: Path, tasks: Sequence[str], cases: int) -> None:
    """Logs of one training, and an embedding of its cases."""
    rng = np.random.default_rng(len(str(place)))
    steps = [
        {"step": step, **{f"{t}.{part}": rng.uniform(0.1, 1) for t in tasks for part in ("loss", "weight")}}
        for step in range(STEPS)
    ]
    write_table(place / "run" / "weights.csv", steps)
    epochs = [
        {"epoch": e, "step": 6 * e, **{f"{p}.loss.{t}": 1 / e for t in tasks for p in ("train", "val")}}
        for e in (1, 2)
    ]
    write_table(place / "run" / "metrics.csv", epochs)
    points = [
        {"case_id": f"c{n}", **{f"feature.{i}": rng.normal() for i in range(6)}, "disease": "ab"[n % 2],
         "LV_EF": float(n)}
        for n in range(cases)
    ]  # fmt: skip
    write_table(place / "embedding.csv", points)


def write_comparison(
    root: Path,
    delta: Mapping[str, Sequence[float]],
    sections: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    cases: int = 6,
    trials: int = 0,
    failed: Sequence[str] = (),
    p: float | None = 0.01,
) -> Path:
    """A finished comparison of methods with these delta-m, a number per seed."""
    folders = {name: f"m{number}" for number, name in enumerate(delta)}
    seeds = list(range(max(len(values) for values in delta.values())))
    rows: list[dict[str, Any]] = []
    for name, values in {SINGLE: [0.0] * len(seeds), **delta}.items():
        for seed, value in enumerate(values):
            bad = name in failed
            row = {
                "method": name,
                "seed": seed,
                "status": "failed" if bad else "ok",
                "message": "lost" * bad,
            }
            row |= {"delta_m_percent": value, "anatomy.dice": 0.8 - value / 100, "seconds_per_step": 0.1}
            rows.append({**row, "disease.balanced_accuracy": 0.5 - value / 200, "steps": STEPS})
            if name != SINGLE and not bad:
                write_run(root / "runs" / folders[name] / f"seed{seed}", list(METRICS), cases)
    for task in METRICS:
        write_run(root / "runs" / SINGLE / task / "seed0", [task], cases)
    write_table(root / "compare.csv", rows)
    methods = {}
    for name, values in {SINGLE: [0.0] * len(seeds), **delta}.items():
        here = [] if name in failed else list(values)
        methods[name] = {
            "delta_m_percent": spread(*here),
            "change_percent": {task: spread(*here) for task in METRICS},
            "values": {f"{task}.{m}": spread(*(0.5 for _ in here)) for task, m in METRICS.items()},
            "costs": {
                "seconds_per_step": 0.1, "peak_memory_mib": None, "steps": STEPS, "search_steps": 24 * trials,
                "search_seconds": 2.0, "learning_rate": 1e-3, "weight_decay": 0.01,
            },
        }  # fmt: skip
        if name != SINGLE:
            methods[name] |= {"wins": dict.fromkeys(METRICS, 1), "mean_rank": 1.5 if here else None}
    reference = next(iter(delta))
    tests = [
        {"method": name, "task": task, "name": "", "n": 6, "difference": 0.1, "p": p, "holm": p,
         "remark": "r"}
        for name in delta if name != reference for task in (*METRICS, "")
    ]  # fmt: skip
    summary = {
        "split": "test",
        "metrics": METRICS,
        "reference": reference,
        "seeds": seeds,
        "methods": methods,
    }
    (root / "summary.json").write_text(json.dumps({**summary, "tests": tests, "notes": ["a <note>"]}))
    description = {
        "medmtl_comparison": 1, "dataset": {"name": "tiny <1>"}, "split": "test", "search_trials": trials,
        "methods": {name: dict((sections or {}).get(name, {"type": name})) for name in delta},
        "folders": folders,
        "config": {"tasks": dict.fromkeys(METRICS), "training": {"epochs": 2, "steps_per_epoch": 6}},
    }  # fmt: skip
    (root / "comparison.yaml").write_text(yaml.safe_dump(description, sort_keys=False))
    return root


def page_of(folder: Path) -> str:
    return build_report(folder).read_text()


def section(page: str, slug: str) -> str:
    found = re.search(rf'<section id="{slug}".*?</section>', page, flags=re.DOTALL)
    assert found is not None, f"no section {slug}"
    return found.group()


@pytest.mark.parametrize("missing", ["summary.json", "compare.csv"])
def test_a_comparison_without_its_end_is_not_finished(tmp_path: Path, missing: str) -> None:
    folder = write_comparison(tmp_path, {"ew": [1.0]})
    (folder / missing).unlink()
    with pytest.raises(OutputError, match="the comparison is not finished"):
        build_report(folder)


def test_methods_are_ordered_by_delta_m_and_those_without_one_come_last(tmp_path: Path) -> None:
    folder = write_comparison(
        tmp_path, {"ew": [3.0, 1.0], "uw": [-4.0, -2.0], "gls": [5.0, 5.0]}, failed=["gls"]
    )
    material = gather_comparison(folder)
    assert ordered(material.summary) == ["uw", SINGLE, "ew", "gls"]
    assert material.ranked() == ["uw", "ew"]
    page = page_of(folder)
    names = re.findall(r'<th scope="row">([^<]+)</th>', section(page, "ranking"))
    assert names == ["uw", SINGLE, "ew", "gls"]
    assert "gls, seed 0 could not be trained: lost" in page


def test_one_method_and_one_seed_are_drawn_too(tmp_path: Path) -> None:
    page = page_of(write_comparison(tmp_path, {"ew": [1.0]}, cases=2))
    assert "One method only, so there is nothing to test it against." in page
    assert "2 cases are too few to show how they lie to each other." in page
    assert "one seed" in section(page, "ranking")


def test_a_comparison_in_which_nothing_could_be_trained_says_so(tmp_path: Path) -> None:
    page = page_of(
        write_comparison(tmp_path, {"ew": [math.nan], "uw": [math.nan]}, failed=["ew", "uw"], p=None)
    )
    for slug in ("weights", "losses", "embedding"):
        assert 'class="missing"' in section(page, slug)
    assert "No test could be made" in section(page, "tests")


def test_logs_that_are_gone_leave_their_panel_empty(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path, {"ew": [1.0], "uw": [2.0]})
    for name in ("weights.csv", "metrics.csv"):
        (folder / "runs" / "m0" / "seed0" / "run" / name).unlink()
    page = page_of(folder)
    assert "ew: no weights" in page
    assert "<svg" in section(page, "losses")


def test_more_methods_than_a_panel_can_show_leave_out_the_middle(tmp_path: Path) -> None:
    names = [f"method{number}" for number in range(MOST + 4)]
    folder = write_comparison(tmp_path, {name: [float(n)] for n, name in enumerate(names)})
    shown = shown_methods(gather_comparison(folder))
    assert len(shown) == MOST
    assert {names[0], names[-1]} <= set(shown)
    assert "4 methods between the best and the worst are not drawn." in section(page_of(folder), "losses")


def test_every_method_has_a_style_of_its_own(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path, {f"m{n}": [1.0] for n in range(20)})
    material = gather_comparison(folder)
    styles = [str(sorted(style_of(material, name).items())) for name in [SINGLE, *material.methods]]
    assert len(set(styles)) == 21


def test_a_long_name_is_cut_in_figures_and_whole_in_tables(tmp_path: Path) -> None:
    name = "scalarization(weights={anatomy: 0.5, disease: 0.25})"
    page = page_of(write_comparison(tmp_path, {"ew": [1.0], name: [2.0]}))
    assert name in section(page, "ranking")
    assert short(name) == f"{name[:25]}…"
    assert short("uw-so(temperature=20)") == "uw-so(temperature=20)"


def test_temperatures_are_drawn_where_there_are_several_with_the_same_options(tmp_path: Path) -> None:
    sections = {
        "a": {"type": "uw-so", "temperature": 2}, "b": {"type": "uw-so", "temperature": 20.0},
        "c": {"type": "uw-so", "temperature": 5, "floor": 0.1}, "ew": {"type": "ew"},
    }  # fmt: skip
    page = page_of(
        write_comparison(tmp_path / "1", {"a": [3.0], "b": [1.0], "c": [2.0], "ew": [1.5]}, sections)
    )
    drawn = section(page, "temperature")
    assert "T = 2: +3.0 %, T = 20: +1.0 %" in drawn
    assert "T = 5" not in drawn
    without = page_of(write_comparison(tmp_path / "2", {"a": [3.0], "c": [2.0], "ew": [1.5]}, sections))
    assert 'id="temperature"' not in without


def test_what_a_search_took_is_counted_in_trainings(tmp_path: Path) -> None:
    page = page_of(write_comparison(tmp_path, {"ew": [1.0], "uw": [2.0]}, trials=3))
    assert "6.0 trainings" in section(page, "ranking")
    assert "Best of 3 for each method" in section(page, "search")


def test_tests_that_tell_a_difference_are_flagged_and_those_that_cannot_say_why(tmp_path: Path) -> None:
    surely = section(page_of(write_comparison(tmp_path / "1", {"ew": [1.0], "uw": [2.0]}, p=0.0004)), "tests")
    assert 'class="flag"' in surely
    assert "&lt; 0.001" in surely
    unsure = section(page_of(write_comparison(tmp_path / "2", {"ew": [1.0], "uw": [2.0]}, p=None)), "tests")
    assert 'class="flag"' not in unsure
    assert "p –, n = 6" in unsure


def test_names_are_escaped_and_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    page = page_of(write_comparison(tmp_path, {"ew": [1.0], "uw": [2.0]}))
    assert "tiny &lt;1&gt;" in page
    assert "a &lt;note&gt;" in page
    assert not re.findall(r'(?:src|href)="http', page)


def test_no_two_elements_of_the_page_share_an_id(tmp_path: Path) -> None:
    page = page_of(write_comparison(tmp_path, {"ew": [1.0, 2.0], "uw": [2.0, 0.0]}))
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_components_are_those_of_largest_variance(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path, {"ew": [1.0]}, cases=30)
    table = read_table(folder / "runs" / "m0" / "seed0" / "embedding.csv")
    assert table is not None
    points, share = components(table)
    features = table[[c for c in table.columns if c.startswith("feature.")]].to_numpy()
    values = np.sort(np.linalg.eigvalsh(np.cov(features.T)))[::-1]
    np.testing.assert_allclose(points.var(axis=0, ddof=1), values[:2])
    np.testing.assert_allclose(share, values[:2] / values.sum())


@pytest.mark.parametrize(
    ("value", "text"),
    [(-1.25, "−1.2"), (0.04, "0.0"), (-0.04, "0.0"), (3, "+3.0"), (None, "–"), (math.nan, "–")],
)
def test_a_change_has_a_sign_unless_it_is_nothing(value: float | None, text: str) -> None:
    assert signed(value) == text


def test_the_console_has_a_row_per_method(tmp_path: Path) -> None:
    material = gather_comparison(write_comparison(tmp_path, {"ew": [1.0, 2.0], "uw": [-2.0, 0.0]}))
    table = console_table(material.summary)
    assert list(table.columns[0].cells) == ["uw", SINGLE, "ew"]
    assert next(iter(table.columns[1].cells)) == "-1 ± 1.4"
