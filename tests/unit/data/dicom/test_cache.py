"""The second look at a folder: the same as the first, from memory, and never from a memory that is wrong."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from medmtl.data.dicom import reading
from medmtl.data.dicom.cache import HeaderCache, default_cache
from medmtl.data.dicom.instances import read_instances
from medmtl.data.dicom.model import Instance, Source
from medmtl.data.dicom.outcome import Outcome
from medmtl.data.dicom.records import Record, encode
from medmtl.data.dicom.remembered import remembered_answer
from medmtl.data.dicom.sources import find_sources
from medmtl.data.dicom.stored import from_bytes, to_bytes
from medmtl.types import Finding
from tests.helpers.small_dicom import SHIPPED, Memory, dataset, encoded, small

LONG_AGO_NS = 1_600_000_000_000_000_000


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Labels of the files that are really read."""
    labels: list[str] = []
    really = reading.read_source

    def counted(source: Source, *more: Any) -> Outcome:
        labels.append(source.label)
        return really(source, *more)

    monkeypatch.setattr(reading, "read_source", counted)
    return labels


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A folder with good files, odd ones, broken ones, and others, none of which changed lately."""
    big = dataset(20)
    big.set_original_encoding(False, False)
    files = {
        **{f"series/{n}": small(n, TriggerTime=str(46 * n)) for n in range(1, 7)},
        "series/copy of 3": small(3, TriggerTime=str(46 * 3)),
        "series/broken": small(9)[:-5],
        "odd/big": encoded(big, ExplicitVRBigEndian),
        "odd/deflated": small(21, DeflatedExplicitVRLittleEndian),
        "odd/strange": small(22)
        .replace(b"\x28\0\x06\0US", b"\x28\0\x06\0QQ")
        .replace(b"\x18\0\x50\0DS", b"\x18\0\x50\0QQ"),
        "odd/undecodable": small(23).replace(b"1.5\\1.25", b"1.5\\1,25"),
        "odd/empty": b"",
        "odd/called.dcm": b"words",
        "odd/report": (SHIPPED / "rtstruct.dcm").read_bytes(),
        "notes.txt": b"words",
    }
    for name, content in files.items():
        (tmp_path / "study" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "study" / name).write_bytes(content)
    with zipfile.ZipFile(tmp_path / "study" / "more.zip", "w") as archive:
        archive.writestr("inside", small(30))
    settle(tmp_path / "study")
    return tmp_path / "study"


def settle(folder: Path) -> None:
    for path in folder.rglob("*"):
        os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))


def seen(look: tuple[list[Instance], list[Finding]]) -> object:
    """All that can be told of a look."""
    instances, findings = look
    return [
        (
            i.source.label,
            i.source.read(),
            i.header.as_dict(),
            i.header.undecodable(),
            i.transfer_syntax,
            i.pixels,
        )
        for i in instances
    ], findings


def look(study: Path, cache: Path | None) -> tuple[list[Instance], list[Finding]]:
    return read_instances(find_sources([study]), cache=cache)


# ----------------------------------------------------------------------------------- a memory that is wrong


def garbage(cache: Path) -> None:
    cache.write_bytes(b"this is no database at all" * 1000)


def cut_in_half(cache: Path) -> None:
    cache.write_bytes(cache.read_bytes()[: cache.stat().st_size // 2])


def empty(cache: Path) -> None:
    cache.write_bytes(b"")


def another_database(cache: Path) -> None:
    cache.unlink()
    with sqlite3.connect(cache) as database:
        database.execute("CREATE TABLE records (something TEXT)")
    database.close()


def records_of_nonsense(cache: Path) -> None:
    with sqlite3.connect(cache) as database:
        database.execute("UPDATE records SET record = ?", (b"nonsense",))
    database.close()


def flipped_records(cache: Path) -> None:
    with sqlite3.connect(cache) as database:
        for place, record in database.execute("SELECT place, record FROM records").fetchall():
            wrong = bytearray(record)
            wrong[len(wrong) // 2] ^= 1
            database.execute("UPDATE records SET record = ? WHERE place = ?", (bytes(wrong), place))
    database.close()


def text_for_records(cache: Path) -> None:
    with sqlite3.connect(cache) as database:
        database.execute("UPDATE records SET record = 'words'")
    database.close()


@pytest.mark.parametrize(
    "spoil",
    [garbage, cut_in_half, empty, another_database, records_of_nonsense, flipped_records, text_for_records],
)
def test_a_spoilt_cache_is_as_good_as_none(
    study: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    cache = tmp_path / "headers.sqlite"
    expected = seen(look(study, None))
    look(study, cache)
    spoil(cache)
    assert seen(look(study, cache)) == expected
    assert seen(look(study, cache)) == expected


@pytest.mark.parametrize("where", ["a folder", "below a file"])
def test_a_cache_that_cannot_be_made_is_as_good_as_none(study: Path, tmp_path: Path, where: str) -> None:
    cache = tmp_path / "cache"
    if where == "a folder":
        cache.mkdir()
    else:
        cache.write_text("a file", encoding="utf-8")
        cache = cache / "headers.sqlite"
    assert seen(look(study, cache)) == seen(look(study, None))


def test_a_cache_that_another_process_holds_is_as_good_as_none(study: Path, tmp_path: Path) -> None:
    cache = tmp_path / "headers.sqlite"
    look(study, cache)
    other = sqlite3.connect(cache, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        assert len(look(study / "series", cache)[0]) == 7
    finally:
        other.close()


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 3000), st.binary(min_size=1, max_size=6), st.booleans())
def test_no_bytes_make_a_record_but_those_of_a_record(at: int, put: bytes, repaired: bool) -> None:
    import zlib
    from struct import pack

    outcome = reading.Reader().read([Memory(small(1)), Memory(small(2))], lambda: None)
    record = encode(outcome, [b"1" * 8, b"2" * 8], b"whole")
    at %= len(record)
    wrong = record[:at] + put + record[at + len(put) :]
    if repaired:  # even with the right sum
        wrong = wrong[:8] + pack("<I", zlib.crc32(wrong[16:])) + wrong[12:]
    try:
        read = Record(wrong)
        for number, found in enumerate(read.outcomes([Memory(b""), Memory(b"")])):
            if found.instance is not None:
                found.instance.header.as_dict()
            read.outcome(number, Memory(b""))
    except ValueError:
        return
    assert repaired or wrong == record


# ---------------------------------------------------------------------------------- files that have changed


def test_a_file_that_changed_is_read_again_and_the_others_are_not(
    study: Path, tmp_path: Path, opened: list[str]
) -> None:
    cache = tmp_path / "headers.sqlite"
    look(study, cache)
    (study / "series" / "2").write_bytes(small(2, TriggerTime="999"))
    os.utime(study / "series" / "2", ns=(LONG_AGO_NS + 1, LONG_AGO_NS + 1))
    opened.clear()
    instances, _ = look(study, cache)
    assert opened == ["series/2"]
    assert {i.header.get("TriggerTime") for i in instances if i.source.label == "series/2"} == {999.0}
    assert seen(look(study, cache)) == seen(look(study, None))


def test_files_that_came_went_and_were_renamed_are_noticed(
    study: Path, tmp_path: Path, opened: list[str]
) -> None:
    cache = tmp_path / "headers.sqlite"
    look(study, cache)
    (study / "series" / "1").unlink()
    (study / "series" / "2").rename(study / "series" / "renamed")
    (study / "series" / "new").write_bytes(small(50))
    settle(study)
    opened.clear()
    found = seen(look(study, cache))
    assert opened == ["series/new", "series/renamed"]
    assert found == seen(look(study, None))


def test_a_file_that_changed_just_now_is_not_remembered(tmp_path: Path, opened: list[str]) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "1").write_bytes(small(1))
    (tmp_path / "study" / "2").write_bytes(small(2))
    os.utime(tmp_path / "study" / "1", ns=(LONG_AGO_NS, LONG_AGO_NS))
    for _ in range(2):
        opened.clear()
        look(tmp_path / "study", tmp_path / "headers.sqlite")
    assert opened == ["2"]


def test_an_archive_that_changed_is_read_again(study: Path, tmp_path: Path) -> None:
    cache = tmp_path / "headers.sqlite"
    look(study, cache)
    with zipfile.ZipFile(study / "more.zip", "w") as archive:
        archive.writestr("inside", small(31))
    os.utime(study / "more.zip", ns=(LONG_AGO_NS + 1, LONG_AGO_NS + 1))
    assert seen(look(study, cache)) == seen(look(study, None))


# -------------------------------------------------------------------------------------------- a second look


def test_a_second_look_is_the_first_and_reads_no_file(study: Path, tmp_path: Path, opened: list[str]) -> None:
    cache = tmp_path / "headers.sqlite"
    first = seen(look(study, cache))
    assert len(opened) > 15
    opened.clear()
    assert seen(look(study, cache)) == first
    assert opened == []
    assert first == seen(look(study, None))


def test_a_second_look_from_elsewhere_has_labels_of_its_own(
    study: Path, tmp_path: Path, opened: list[str]
) -> None:
    cache = tmp_path / "headers.sqlite"
    look(study.parent, None)
    look(study, cache)
    opened.clear()
    found = look(study / "odd", cache)
    assert opened == []
    assert seen(found) == seen(look(study / "odd", None))


def test_an_answer_is_made_once_and_again_when_any_file_changes(study: Path, tmp_path: Path) -> None:
    cache, made = tmp_path / "headers.sqlite", []

    def answer(about: str = "series") -> bytes:
        def make() -> bytes:
            made.append(about)
            return f"{about} {len(made)}".encode()

        return remembered_answer([study], cache, about, make)

    assert [answer(), answer(), answer("volumes")] == [b"series 1", b"series 1", b"volumes 2"]
    assert answer() == b"series 1"
    (study / "series" / "new").write_bytes(b"")
    settle(study)
    assert answer() == b"series 3"
    (study / "series" / "new").unlink()
    assert answer() == b"series 1"
    os.utime(study / "more.zip", ns=(LONG_AGO_NS + 1, LONG_AGO_NS + 1))
    assert answer() == b"series 4"
    (study / "odd" / "empty").write_bytes(b"just now")
    assert [answer(), answer()] == [b"series 5", b"series 6"]
    settle(study)
    assert [answer(), answer()] == [b"series 7", b"series 7"]
    garbage(cache)
    assert [answer(), answer(), answer()] == [b"series 8"] * 3


def test_nobody_else_may_read_the_cache_and_no_patient_or_path_is_in_it(study: Path, tmp_path: Path) -> None:
    cache = tmp_path / "home" / "medmtl" / "headers.sqlite"
    look(study, cache)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o600
    content = cache.read_bytes()
    for secret in (b"Doe", b"P-17", b"series/2", str(study).encode(), b"called.dcm"):
        assert secret not in content
    assert b"1.2.3.4.5" in content


def test_two_looks_at_once_do_not_disturb_each_other(study: Path, tmp_path: Path) -> None:
    cache = tmp_path / "headers.sqlite"
    expected, found = seen(look(study, None)), []
    threads = [threading.Thread(target=lambda: found.append(seen(look(study, cache)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4


def test_what_was_not_used_for_longest_goes_when_there_is_too_much(tmp_path: Path) -> None:
    path, record = tmp_path / "headers.sqlite", encode([], [], b"")
    with HeaderCache(path, largest=100 * len(record)) as cache:
        for number in range(60):
            cache.put(f"/{number}", record)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE records SET used = used - 1000")
    database.close()
    with HeaderCache(path, largest=100 * len(record)) as cache:
        for number in range(60, 120):
            cache.put(f"/{number}", record)
    with HeaderCache(path) as cache:
        kept = [number for number in range(120) if cache.get(f"/{number}") is not None]
    assert len(kept) == 75
    assert set(range(60, 120)) <= set(kept)


def test_a_record_that_is_used_again_is_kept_longer(tmp_path: Path) -> None:
    path = tmp_path / "headers.sqlite"
    with HeaderCache(path) as cache:
        cache.put("/old", encode([], [], b""))
    with sqlite3.connect(path) as database:
        database.execute("UPDATE records SET used = 1000")
    database.close()
    with HeaderCache(path) as cache:
        assert cache.get("/old") is not None
    with sqlite3.connect(path) as database:
        ((used,),) = database.execute("SELECT used FROM records").fetchall()
    database.close()
    assert time.time() - used < 100


def test_the_cache_is_where_the_platform_wants_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "medmtl" / "headers.sqlite"
    monkeypatch.delenv("XDG_CACHE_HOME")
    for platform, folder in (("linux", ".cache"), ("darwin", "Library/Caches")):
        monkeypatch.setattr("sys.platform", platform)
        monkeypatch.setattr(Path, "home", lambda: tmp_path)
        assert default_cache() == tmp_path / folder / "medmtl" / "headers.sqlite"


@pytest.mark.parametrize(
    "name", ["CT_small", "rtstruct", "liver_1frame", "MR_small_bigendian", "badVR", "rtplan"]
)
def test_a_header_comes_back_from_bytes_as_it_was(name: str) -> None:
    from medmtl.data.dicom.header import Header

    header = reading.read_source(Memory((SHIPPED / f"{name}.dcm").read_bytes()))
    assert header.instance is not None
    own, _, context = header.instance.header.layers
    back = Header(from_bytes(to_bytes(own)), context)
    assert back.as_dict() == header.instance.header.as_dict()
    assert back.undecodable() == header.instance.header.undecodable()
