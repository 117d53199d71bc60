"""Progress for people and for logs."""

import io
import sys

import pytest
from assay.cli.progress import Progress, duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(progress: Progress, rows: int, *, failed: int = 0) -> None:
    now = 100.0
    progress._clock = lambda: now
    with progress:
        for at in range(rows):
            now += 0.5
            progress.advance(failed=at < failed)


def test_a_log_gets_a_line_now_and_then_with_rate_and_time_left() -> None:
    log = io.StringIO()
    run(Progress(1000, 100, stream=log), 60, failed=3)
    lines = log.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0] == "120 of 1,000 rows (12%), 2.0 pairs/s, 7:20 left, 3 failed"


def test_a_person_gets_a_bar_with_rate_and_time_left() -> None:
    terminal = Terminal()
    run(Progress(50, stream=terminal), 50, failed=2)
    text = terminal.getvalue()
    assert "50/50" in text
    assert "2.0 pairs/s" in text
    assert "2 failed" in text


def test_a_person_without_rich_gets_the_lines_of_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    terminal = Terminal()
    run(Progress(50, stream=terminal), 50)
    assert "rows (40%)" in terminal.getvalue()


def test_quiet_is_quiet() -> None:
    for stream in (Terminal(), io.StringIO()):
        run(Progress(50, stream=stream, quiet=True), 50)
        assert stream.getvalue() == ""


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (36_061, "10:01:01")])
def test_durations_read_as_on_a_clock(seconds: float, text: str) -> None:
    assert duration(seconds) == text
