"""Progress of verbs: bars on a terminal, silence elsewhere."""

from __future__ import annotations

import pytest

from medmtl.commands.shared import progress_bars

Captured = pytest.CaptureFixture[str]


def test_progress_is_silent_where_there_is_no_terminal(capsys: Captured) -> None:
    with progress_bars() as progress:
        progress("train", 1, 2)
        progress("train", 2, 2)
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_progress_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress_bars() as progress:
        progress("train", 1, 2)
        progress("train", 2, 2)
    captured = capsys.readouterr()
    assert "2/2" in captured.err
    assert captured.out == ""
