"""A real headless Chromium, started once for this package, and pages that must neither fail nor ask for anything.

Where there is no Chromium (Debian's package `chromium`; `.ci/run` installs it) these tests are skipped, and say so.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from assay_server.report import Report, render_report

from tests.support.waiting import PATIENCE

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
Open = Callable[..., Any]


@pytest.fixture(scope="package")
def chromium() -> Iterator[Any]:
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: the report is tested in no browser"
    )
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("there is no chromium here: the report is tested in no browser (Debian: apt-get install chromium)")
    # Of package scope on purpose: Playwright holds an event loop, which must be gone before the next asynchronous test.
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def open_report(chromium: Any, tmp_path: Path) -> Iterator[Open]:
    """Opens a report in a page of its own. When the test ends, no page may have failed, complained or asked for anything."""
    number = itertools.count()
    contexts: list[Any] = []
    problems: list[str] = []

    def open_(
        report: Report, *, width: int = 1280, height: int = 900, scheme: str = "light", fragment: str = "", **more: Any
    ) -> Any:
        file = tmp_path / f"report-{next(number)}.html"
        file.write_text(render_report(report), encoding="utf-8")
        context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **more)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.on("console", lambda message: problems.append(f"console {message.type}: {message.text}"))
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on("request", lambda request: request.url == file.as_uri() or problems.append(f"request: {request.url[:200]}"))
        page.goto(file.as_uri() + fragment)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not problems
