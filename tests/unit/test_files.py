"""Files and folders that are whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from medmtl.files import is_free, replaced_folder, write_text
from medmtl.types import OutputError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def replace_and_stop(path: Path) -> None:
    with replaced_folder(path) as folder:
        (folder / "new").touch()
        raise KeyboardInterrupt


def test_text_is_written_as_it_stands(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "é\r\nb\n")
    assert (tmp_path / "a.txt").read_bytes() == "é\r\nb\n".encode()
    assert names(tmp_path) == ["a.txt"]


def test_text_replaces_what_was_there(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"no/a\.txt cannot be written \(No such file"):
        write_text(tmp_path / "no" / "a.txt", "text")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a.txt", "half\udc80")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").touch()
    with replaced_folder(tmp_path / "model") as folder:
        (folder / "new").touch()
        assert names(tmp_path / "model") == ["old"], "until the block has ended"
    assert names(tmp_path / "model") == ["new"]
    assert names(tmp_path) == ["model"]


def test_a_folder_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").touch()
    with pytest.raises(KeyboardInterrupt):
        replace_and_stop(tmp_path / "model")
    assert names(tmp_path / "model") == ["old"]
    assert names(tmp_path) == ["model"]


def test_only_nothing_and_an_empty_folder_are_free(tmp_path: Path) -> None:
    assert is_free(tmp_path)
    assert is_free(tmp_path / "new")
    (tmp_path / "file").touch()
    assert not is_free(tmp_path)
    assert not is_free(tmp_path / "file")
