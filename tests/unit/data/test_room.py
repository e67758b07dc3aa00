from __future__ import annotations

from pathlib import Path

import pytest

from medmtl.data.room import free_disk, free_memory, readable, total_memory


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (8 * 2**30, "8.59 GB"),
        (123.4e9, "123 GB"),
        (5e13, "50 TB"),
    ],
)
def test_a_number_of_bytes_is_read_like_a_disks(size: float, words: str) -> None:
    assert readable(size) == words


def test_there_is_no_more_free_than_there_is() -> None:
    assert 0 < free_memory() <= total_memory()


def test_the_disk_of_a_folder_that_is_not_there_yet_is_the_one_it_will_be_on(tmp_path: Path) -> None:
    assert free_disk(tmp_path / "not" / "yet") > 0
