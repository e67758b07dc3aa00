"""Which format reads a folder that several could read, and what is said about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from medmtl.data import ingest
from medmtl.data.formats import FORMATS, find_format, recognize
from medmtl.types import DatasetError
from tests.helpers.layouts import MNMS_TABLE, mnms_row, write_table

Write = Callable[..., Path]


def test_equally_specific_formats_ask_which(tmp_path: Path, acdc: Write, mnms: Write) -> None:
    mnms(acdc(tmp_path))
    with pytest.raises(
        DatasetError, match=r"several formats \(acdc because of .*; mnms because of .*--format acdc"
    ):
        find_format(tmp_path)


def test_the_more_specific_format_reads_and_the_other_is_named(tmp_path: Path, mnms: Write) -> None:
    mnms(tmp_path, ["A0S9V9"])
    rows = [mnms_row("A0S9V9", image="Training/Labeled/A0S9V9/A0S9V9_sa.nii.gz")]
    write_table(tmp_path / MNMS_TABLE, rows)
    found = recognize(tmp_path)
    assert found.name == "mnms"
    assert found.because.endswith(
        f"A0S9V9_sa.nii.gz (less specific: table because of the images that {MNMS_TABLE} names)"
    )


def test_a_format_that_is_named_is_taken_whatever_else_there_is(
    tmp_path: Path, acdc: Write, phantom: Write
) -> None:
    phantom(acdc(tmp_path))
    assert str(recognize(tmp_path, "acdc")) == "acdc, because of the patient folder patient001"


def test_ingest_says_what_it_recognized(tmp_path: Path, nnunet: Write) -> None:
    result = ingest(nnunet(tmp_path / "raw"), tmp_path / "out")
    expected = "nnunet, because of dataset.json with channel_names and file_ending, beside imagesTr"
    assert result.recognized == expected


def test_data_sets_outrank_layouts_and_layouts_outrank_plain_folders() -> None:
    ranks = {name: FORMATS.get(name).rank for name in FORMATS}
    named = {"acdc": 3, "mnms": 3, "emidec": 3, "phantom": 3, "nnunet": 2, "msd": 2, "bids": 2, "table": 1}
    assert ranks | named == ranks


def test_a_dataset_is_said_to_be_one(tmp_path: Path, tiny_dataset: Write) -> None:
    tiny_dataset(tmp_path / "ds")
    with pytest.raises(
        DatasetError, match=r"ds is a dataset already; use it as it is, or write another layout"
    ):
        ingest(tmp_path / "ds", tmp_path / "out")
