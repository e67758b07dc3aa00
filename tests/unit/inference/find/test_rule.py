"""Selection rules as people write them: sections, ``--select``, and what is wrong with them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmtl.inference.find import ChannelRule, Rule, parse_rule, parse_select
from medmtl.types import ConfigError

ANY = parse_rule(None, ["cine"])


def test_without_a_section_anything_with_two_slices_goes() -> None:
    assert Rule({"cine": ChannelRule()}) == ANY
    assert ChannelRule() == ChannelRule((), "any", (None, None), 2, (), ())


def test_a_section_holds_for_all_channels_and_for_single_ones() -> None:
    section = {"modality": "ct", "frames": 1, "pet": {"modality": ["PT"], "min_slices": 40}}
    rule = parse_rule(section, ["ct", "pet"])
    assert rule.channels["ct"] == ChannelRule(("CT",), frames=(1, 1))
    assert rule.channels["pet"] == ChannelRule(("PT",), frames=(1, 1), min_slices=40)


def test_what_a_section_leaves_out_stays_as_it_was() -> None:
    base = parse_rule({"modality": "MR", "frames": [2, None], "min_slices": 6}, ["cine"])
    assert parse_rule({"frames": [10, 40]}, ["cine"], base).channels["cine"] == ChannelRule(
        ("MR",), frames=(10, 40), min_slices=6
    )


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"modalty": "MR"}, r"select.modalty: unknown key; did you mean 'modality'"),
        ({"cine": {"frame": 1}}, r"select.cine.frame: unknown key; did you mean 'frames'"),
        ({"modality": "M-R"}, r"'M-R' is no DICOM modality"),
        ({"orientation": "shortaxis"}, r"'shortaxis' is not known; did you mean 'short-axis'"),
        ({"frames": [40, 10]}, r"the fewest \(40\) are more than the most \(10\)"),
        ({"frames": [0, 3]}, r"at least 1"),
        ({"frames": "10-40"}, r"must be \[fewest, most\]"),
        ({"min_slices": True}, r"whole number"),
        ({"description": [7]}, r"list of texts"),
        ("MR", r"must be a mapping"),
    ],
)
def test_a_section_that_cannot_be_used_is_told_by_its_key(section: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_rule(section, ["cine"], where="acdc.yaml: ")


def test_select_says_otherwise_than_the_model() -> None:
    rule = parse_rule({"modality": "MR", "frames": [2, None]}, ["cine"])
    told = parse_select(["modality=MR|ct, frames=10-40,description=*SAX*|short", "exclude=loc"], rule)
    wanted = ChannelRule(("MR", "CT"), frames=(10, 40), description=("*SAX*", "short"), exclude=("loc",))
    assert told.channels["cine"] == wanted


@pytest.mark.parametrize(
    ("text", "frames"), [("10-", (10, None)), ("-40", (None, 40)), ("1", (1, 1)), ("-", (None, None))]
)
def test_an_end_of_a_range_may_stay_open(text: str, frames: tuple[int | None, int | None]) -> None:
    assert parse_select([f"frames={text}"], ANY).channels["cine"].frames == frames


def test_an_empty_value_asks_for_nothing() -> None:
    rule = parse_rule({"modality": "MR", "description": "sax"}, ["cine"])
    assert parse_select(["modality=,description="], rule).channels["cine"] == ChannelRule()


def test_select_reaches_one_channel() -> None:
    rule = parse_rule({"modality": "CT"}, ["ct", "pet"])
    told = parse_select(["pet.modality=PT"], rule)
    assert [channel.modality for channel in told.channels.values()] == [("CT",), ("PT",)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("modality", "write it as description="),
        ("modalities=MR", "did you mean 'modality'"),
        ("lge.modality=MR", "is no condition"),
        ("frames=ten", "is no range"),
        ("frames=1-2-3", "is no range"),
        ("min_slices=-1", "is no whole number"),
        ("modality=MR,modality=CT", "stands there twice"),
    ],
)
def test_a_select_that_is_none_is_told(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_select([text], ANY)


def test_two_channels_that_ask_for_the_same_are_told() -> None:
    with pytest.raises(ConfigError, match="cine and lge ask for the same volume"):
        parse_rule({"modality": "MR"}, ["cine", "lge"]).check_distinct()


words = st.lists(st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1), max_size=3)
ends = st.tuples(st.none() | st.integers(1, 50), st.none() | st.integers(51, 99))


@given(
    st.builds(
        ChannelRule,
        modality=st.lists(st.sampled_from(["MR", "CT", "PT"]), unique=True).map(tuple),
        orientation=st.sampled_from(["any", "axial", "short-axis"]),
        frames=ends,
        min_slices=st.integers(1, 500),
        description=words.map(tuple),
        exclude=words.map(tuple),
    )
)
def test_a_rule_comes_back_from_plain_data(channel: ChannelRule) -> None:
    rule = Rule({"cine": channel})
    assert parse_rule(rule.as_plain(), ["cine"]) == rule
