"""Logs: their two forms, and what never gets into them."""

import io
import json
import logging

from assay_server.telemetry.logs import event, get_logger, setup_logs, trace_of


def written(form: str, **values: object) -> str:
    stream = io.StringIO()
    setup_logs(form=form, level="info", stream=stream)
    event(get_logger("test"), logging.INFO, "loaded", **values)
    event(get_logger("test"), logging.DEBUG, "unseen")
    return stream.getvalue()


def test_json_logs_are_one_object_a_line() -> None:
    line = written("json", model="a b", seconds=1.5, none=None)
    entry = json.loads(line)
    assert (entry["event"], entry["level"], entry["model"], entry["seconds"], entry["none"]) == (
        "loaded",
        "info",
        "a b",
        1.5,
        None,
    )
    assert entry["time"].endswith("Z")


def test_text_logs_quote_what_has_spaces() -> None:
    assert written("text", model="a b", seconds=1.23456789, hook="x").endswith('loaded model="a b" seconds=1.23457 hook=x\n')


def test_a_line_break_in_a_value_does_not_break_the_line() -> None:
    for form in ("text", "json"):
        assert written(form, value="a\nb").count("\n") == 1


def test_a_trace_names_types_and_places_and_no_words() -> None:
    def inner() -> None:
        raise KeyError("words of a pair")

    def outer() -> None:
        try:
            inner()
        except KeyError as error:
            raise ValueError("more words of a pair") from error

    try:
        outer()
    except ValueError as error:
        trace = trace_of(error)
    assert "of a pair" not in trace
    assert trace.startswith("builtins.ValueError at test_logs.py:")
    assert "caused by builtins.KeyError" in trace
    assert "inner" in trace
