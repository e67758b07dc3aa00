"""The journal: what is noted, what is done again, whom it refuses."""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medmtl.inference.items import Item, fingerprint_of, pack, unpack
from medmtl.inference.journal import Journal
from medmtl.inference.lock import only_one
from medmtl.inference.outcome import Outcome, without_values
from medmtl.inference.status import read_status
from medmtl.types import OutputError, StoppedError

OPTIONS: dict[str, Any] = {"tasks": ["anatomy"], "mirror": False, "select": ""}


def item(name: str = "a", fingerprint: str = "1", **others: Any) -> Item:
    return Item(f"nifti:{name}", name, "nifti", (f"/data/{name}.nii.gz",), fingerprint=fingerprint, **others)


def opened(folder: Path, model: str = "m1", **options: Any) -> Journal:
    return Journal(folder / "journal.sqlite", model, {**OPTIONS, **options})


def add(journal: Journal, found: Item, **options: bool) -> Item | None:
    with journal.transaction():
        return journal.add(found, **options)


def ok(found: Item) -> Outcome:
    return Outcome(
        found.key, "ok", {"case_id": found.case_id, "status": "ok"}, found.fingerprint, {"read": 0.5}
    )


def test_what_is_done_is_done_once_and_what_changed_again(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with opened(tmp_path) as journal:
        assert add(journal, item()) == item()
        journal.begin(item().key)
        journal.end(ok(item()))
    with opened(tmp_path) as journal:
        assert add(journal, item()) is None
        assert add(journal, item(fingerprint="2")) == item(fingerprint="2")
        assert journal.counts() == {"waiting": 1}
        assert list(journal.rows()) == []


def test_what_was_at_work_when_the_run_was_killed_is_done_again(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    add(journal, item())
    journal.begin(item().key)
    journal._base.close()  # as a kill leaves it
    with opened(tmp_path) as again:
        assert again.counts() == {"waiting": 1}
        assert add(again, item()) == item()


def test_a_transaction_that_was_killed_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        with pytest.raises(OutputError, match=r"cannot be used|damaged"), journal.transaction():
            journal._base.execute("INSERT INTO nowhere VALUES (?)", (str(journal.add(item())),))
        assert journal.counts() == {}


def test_a_result_whose_folder_is_gone_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with opened(tmp_path) as journal:
        add(journal, item())
        journal.end(ok(item()))
        assert add(journal, item()) is None
        (tmp_path / "a").rmdir()
        assert add(journal, item()) == item()


def test_failed_studies_are_done_again_only_when_asked_and_refused_ones_never(tmp_path: Path) -> None:
    failed, refused = item("failed"), item("refused")
    with opened(tmp_path) as journal:
        for found, code in ((failed, "TIMEOUT"), (refused, "TRUNCATED")):
            add(journal, found)
            journal.end(without_values(found, code, "said why"))
        assert journal.counts() == {"failed": 1, "refused": 1}
        assert add(journal, failed) is None
        assert add(journal, failed, retry_failed=True) == failed
        assert add(journal, refused, retry_failed=True) is None


def test_rows_come_in_the_order_in_which_studies_were_found(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        for name in "cab":
            add(journal, item(name))
        for name in "abc":
            journal.end(ok(item(name)))
        assert [row["case_id"] for row in journal.rows()] == ["c", "a", "b"]


def test_two_studies_of_one_name_get_two_folders_that_stay_theirs(tmp_path: Path) -> None:
    twin = replace(item(), key="nifti:twin")
    with opened(tmp_path) as journal:
        first, second = add(journal, item()), add(journal, twin)
        assert first is not None
        assert second is not None
        assert first.case_id == "a"
        assert second.case_id == f"a-{twin.key_digest()[:8]}"
    with opened(tmp_path) as journal:
        assert add(journal, twin) == second
        assert add(journal, item()) == first


def test_a_study_that_waited_and_is_gone_from_the_sources_is_forgotten(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        add(journal, item("gone"))
        add(journal, item("done"))
        journal.end(ok(item("done")))
    time.sleep(0.01)
    with opened(tmp_path) as journal:
        add(journal, item("new"))
        journal.found_all()
        assert journal.counts() == {"ok": 1, "waiting": 1}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model": "m2"}, r"another model \(sha256 m1, now m2\)"),
        ({"mirror": True}, "mirror was False, now True"),
        ({"tasks": ["anatomy", "disease"]}, "tasks was anatomy, now anatomy,disease"),
        ({"select": "modality=MR"}, "select was none, now modality=MR"),
    ],
)
def test_another_model_or_other_options_are_refused_by_what_differs(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    opened(tmp_path).close()
    with pytest.raises(OutputError, match=f"holds predictions of another run: {told}; choose another folder"):
        opened(tmp_path, **change)
    opened(tmp_path).close()


def test_another_version_is_refused(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with sqlite3.connect(tmp_path / "journal.sqlite") as base:
        base.execute("UPDATE run SET version = '0.0.1'")
    base.close()
    with pytest.raises(OutputError, match=r"it was begun by medmtl 0.0.1, this is "):
        opened(tmp_path)


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + bytes(200)])
def test_a_file_that_is_no_journal_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journal.sqlite").write_bytes(content)
    with pytest.raises(OutputError, match=r"journal.sqlite: is no journal of medmtl, or damaged"):
        opened(tmp_path)


def test_a_full_disk_stops_the_run_and_leaves_the_journal_as_it_was(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        add(journal, item())
        (pages,) = journal._base.execute("PRAGMA page_count").fetchone()
        journal._base.execute(
            f"PRAGMA max_page_count = {pages}"
        )  # what a full disk says, SQLite says as well
        big = Outcome(item().key, "ok", {"message": "x" * 100_000})
        with pytest.raises(StoppedError, match=r"nothing more can be written .*; make room and run the same"):
            journal.end(big)
        assert journal.counts() == {"waiting": 1}


def test_the_journal_holds_no_path_and_no_uid_that_was_hidden(tmp_path: Path) -> None:
    secret = Item(
        "study:0123", "0123", "dicom", ("/data/SMITH^JOHN/1.dcm",), uids=("1.2.840.1",), fingerprint="1"
    )
    with opened(tmp_path) as journal:
        add(journal, secret)
        journal.begin(secret.key)
        message = "/data/SMITH^JOHN/1.dcm: ends too early"
        journal.end(without_values(secret, "TRUNCATED", message, hidden=True))
    content = (tmp_path / "journal.sqlite").read_bytes()
    assert b"0123: ends too early" in content
    assert b"SMITH" not in content
    assert b"1.2.840" not in content


def test_a_folder_is_held_by_one_at_a_time_and_says_by_whom(tmp_path: Path) -> None:
    told = pytest.raises(OutputError, match=r"process \d+ on .* predicts into it; wait for it")
    with only_one(tmp_path), told, only_one(tmp_path):
        pass
    with only_one(tmp_path):
        assert (tmp_path / "journal.lock").is_file()


def test_status_tells_progress_rate_time_left_and_reasons(tmp_path: Path) -> None:
    with opened(tmp_path) as journal, only_one(tmp_path):
        for name in "abcdef":
            add(journal, item(name))
        journal.end(ok(item("a")))
        journal.end(without_values(item("b"), "TRUNCATED", "x"))
        journal.end(without_values(item("c"), "TIMEOUT", "x"))
        journal.begin(item("d").key)
        time.sleep(0.05)
        found = read_status(tmp_path)
        assert found.counts == {"ok": 1, "refused": 1, "failed": 1, "running": 1, "waiting": 2}
        assert (found.done, found.total, found.found_all, found.running) == (3, 6, False, True)
        assert found.codes == {"TIMEOUT": 1, "TRUNCATED": 1}
        assert found.per_hour is not None
        assert found.seconds_left == pytest.approx(3 / (found.per_hour / 3600))
        journal.found_all()
    assert read_status(tmp_path).found_all
    assert not read_status(tmp_path).running


def test_status_of_what_is_no_prediction_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"no journal.sqlite here; give the folder that"):
        read_status(tmp_path)
    (tmp_path / "journal.sqlite").write_text("x" * 5000)
    with pytest.raises(OutputError, match="is no journal of medmtl, or damaged"):
        read_status(tmp_path)


class TestItems:
    """Items as they travel and as they are told apart."""

    def test_an_item_is_the_same_after_it_was_packed(self) -> None:
        found = item(
            refused=("GAP", "why"), left=("a", "b"), values={"height": 1.5, "sex": None}, uids=("1.2",)
        )
        assert unpack(pack(found)) == found

    def test_ten_thousand_studies_of_three_hundred_files_fit_into_memory(self) -> None:
        paths = tuple(f"/data/archive/2026/11/patient/study/series 4/IM{i:05d}.dcm" for i in range(300))
        assert len(pack(replace(item(), paths=paths))) < 3000

    def test_a_fingerprint_follows_size_time_and_presence(self, tmp_path: Path) -> None:
        (tmp_path / "s").mkdir()
        path = tmp_path / "s" / "a"
        path.write_text("1")
        seen = [fingerprint_of([str(tmp_path / "s")])]
        path.write_text("12")
        seen.append(fingerprint_of([str(tmp_path / "s")]))
        (tmp_path / "s" / "b").write_text("1")
        seen.append(fingerprint_of([str(tmp_path / "s")]))
        assert len(set(seen)) == 3
        alone = fingerprint_of([str(path)])
        path.unlink()
        assert fingerprint_of([str(path)]) != alone
        assert json.dumps(seen)
