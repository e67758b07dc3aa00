"""The report of a prediction in a real browser, which can reach nothing but the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from medmtl.report import build_report
from tests.helpers import browser
from tests.helpers.browser import Page
from tests.helpers.predicted import FRAMES, write_predictions

pytestmark = pytest.mark.skipif(bool(browser.MISSING), reason=browser.MISSING)
RIGHT, LEFT = ("ArrowRight", 39), ("ArrowLeft", 37)
PICTURE = "document.getElementById('view').toDataURL()"
WHAT = "document.getElementById('what').textContent"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_predictions(tmp_path_factory.mktemp("predictions"), 3)
    build_report(root)
    return root


@pytest.fixture(scope="module")
def chromium() -> Iterator[Page]:
    with browser.browser() as page:
        yield page


@pytest.fixture
def page(chromium: Page, folder: Path) -> Page:
    chromium.errors.clear()
    chromium.requests.clear()
    chromium.open(folder / "1.2.826.1" / "report.html")
    chromium.ready()
    return chromium


def clean(page: Page) -> None:
    assert page.errors == []
    assert all(url.startswith(("file:", "data:", "about:")) for url in page.requests)


def test_the_slice_slider_moves_the_slice(page: Page) -> None:
    page.value("document.getElementById('slice').focus()")
    before, what = page.value(PICTURE), page.value(WHAT)
    page.press(*RIGHT)
    after, what_after = page.value(PICTURE), page.value(WHAT)
    assert before != after
    number = int(what.split()[1])
    assert what_after.startswith(f"slice {number + 1} of 6")
    page.press(*LEFT)
    assert page.value(PICTURE) == before
    clean(page)


def test_the_frame_slider_moves_the_frame_and_the_line_in_the_curve(page: Page) -> None:
    page.value("document.getElementById('frame').focus()")
    picture, line = page.value(PICTURE), page.value("+document.getElementById('cursor').getAttribute('x1')")
    page.press(*RIGHT)
    assert "frame 2 of 6, 40 ms" in page.value(WHAT)
    assert page.value(PICTURE) != picture
    assert page.value("+document.getElementById('cursor').getAttribute('x1')") > line
    clean(page)


def test_a_structure_that_is_switched_off_is_not_outlined(page: Page) -> None:
    colour = """(() => {
        const view = document.getElementById("view"), copy = document.createElement("canvas");
        [copy.width, copy.height] = [view.width, view.height];
        const pen = copy.getContext("2d", { willReadFrequently: true });
        pen.drawImage(view, 0, 0);
        const pixels = pen.getImageData(0, 0, view.width, view.height).data;
        let count = 0;
        for (let i = 0; i < pixels.length; i += 4) {
            const rgb = pixels.slice(i, i + 3);
            count += Math.max(...rgb) - Math.min(...rgb) > 60;
        }
        return count;
    })()"""
    with_all = page.value(PICTURE)
    assert page.value(colour) > 500
    page.value("document.querySelectorAll('[data-structure]')[2].click()")
    assert page.value(PICTURE) != with_all
    page.value("document.querySelectorAll('[data-structure]').forEach((box) => box.checked && box.click())")
    assert page.value(colour) == 0
    clean(page)


def test_a_picture_of_the_strip_is_chosen_by_a_click(page: Page) -> None:
    assert page.value("document.querySelectorAll('#strip button').length") == FRAMES
    page.value("document.querySelectorAll('#strip button')[3].click()")
    assert "frame 4 of 6" in page.value(WHAT)
    assert page.value(
        "document.querySelector('#strip button[aria-pressed=true] span').textContent"
    ).startswith("frame 4")
    clean(page)


def test_a_study_of_one_frame_has_no_frames_to_choose(chromium: Page, tmp_path: Path) -> None:
    build_report(write_predictions(tmp_path, 1, frames=1))
    chromium.errors.clear()
    chromium.open(tmp_path / "1.2.826.0" / "report.html")
    chromium.ready()
    assert chromium.value("document.getElementById('frame').disabled") is True
    assert chromium.value("document.getElementById('play')") is None
    assert chromium.value("document.querySelectorAll('#strip button').length") == 6
    clean(chromium)


def test_the_cohort_leads_to_each_study_and_back_and_sorts(chromium: Page, folder: Path) -> None:
    chromium.errors.clear()
    chromium.open(folder / "report.html")
    links = chromium.value("[...document.querySelectorAll('#studies a')].map((a) => a.getAttribute('href'))")
    assert sorted(links) == [f"1.2.826.{number}/report.html" for number in range(3)]
    assert all((folder / link).is_file() for link in links)
    first = "document.querySelector('#studies tbody tr').cells[1].textContent"
    assert chromium.value(first) == "1.2.826.91", "what failed comes first"
    chromium.value("document.querySelectorAll('#studies thead button')[1].click()")
    assert chromium.value(first) == "1.2.826.0"
    chromium.open(folder / links[0])
    chromium.ready()
    back = chromium.value("document.querySelector('nav.pages a').href")
    assert back == (folder / "report.html").resolve().as_uri()
    clean(chromium)
