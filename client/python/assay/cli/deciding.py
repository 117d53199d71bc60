"""``assay decide --from decisions.json``: the decisions that were collected on a report's page, recorded together.

The file names the audit and the fingerprint of its result, so that decisions about other findings are never recorded. What is
decided already in the same words is not recorded again: the same command can be repeated, also after a part of it failed.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from assay.client import Client
from assay.errors import AssayError, ConnectionFailed, DeadlineExceeded, InputError, NotReady, Overloaded
from assay.hypotheses import Decision, DecisionMode
from assay.names import hypothesis_name, resource


@dataclass(frozen=True, slots=True)
class WantedDecision:
    """One decision of the file, in the form that it is recorded in."""

    hypothesis: str
    mode: DecisionMode
    strength: float | None
    note: str

    def is_in(self, last: Decision | None) -> bool:
        """Whether it is what was decided last; a strength that was left out is 1, and a kept concept's does not count."""
        if last is None or last.mode is not self.mode or last.note != self.note:
            return False
        ours, theirs = (1.0 if one is None else one for one in (self.strength, last.strength))
        return self.mode is DecisionMode.KEEP or ours == theirs


@dataclass(frozen=True, slots=True)
class DecisionsFile:
    """What the page saves."""

    audit: str
    fingerprint: str
    decisions: tuple[WantedDecision, ...]


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of a file.

    Attributes:
        recorded: decisions that are new.
        known: hypotheses on which the same was decided before.
        failed: hypotheses that could not be decided on, with why.
        stopped: what ended it before the last one; None where nothing did.
    """

    recorded: tuple[Decision, ...]
    known: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]
    stopped: AssayError | None = None


def read_decisions(path: Path) -> DecisionsFile:
    """The file.

    Raises:
        InputError: NOT_DECISIONS: it is no such file; the message says where.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", reason="NOT_DECISIONS") from error
    except ValueError as error:
        raise InputError(f"{path} is no JSON file: {error}", reason="NOT_DECISIONS") from error
    whole = _object(path, record, "the file")
    audit, fingerprint = _text(path, whole, "audit"), _text(path, whole, "result_fingerprint")
    listed: Any = whole.get("decisions")
    if not isinstance(listed, list) or not audit or not fingerprint:
        raise InputError(
            f"{path} needs audit, result_fingerprint and a list of decisions, as the report saves them", reason="NOT_DECISIONS"
        )
    name = resource(audit, "audits")
    entries = [_decision(path, name, number, entry) for number, entry in enumerate(cast("list[object]", listed), 1)]
    return DecisionsFile(name, fingerprint, tuple({one.hypothesis: one for one in entries}.values()))


def record_decisions(client: Client, file: DecisionsFile, *, author: str = "") -> Recorded:
    """Records what is not recorded yet. A decision that is refused does not keep the others from it; a server that is gone does.

    Raises:
        InputError: RESULT_CHANGED: the audit's result is not the one that was decided on.
    """
    found = client.get_audit(file.audit).result_fingerprint
    if found != file.fingerprint:
        raise InputError(
            f"the decisions are about another result of {file.audit} ({file.fingerprint[:12]}…, now {found[:12] or 'none'}…); "
            "make its report again and decide there",
            reason="RESULT_CHANGED",
        )
    last = {one.hypothesis: one for one in client.decisions(file.audit)}
    recorded, known, failed = list[Decision](), list[str](), list[tuple[str, str]]()
    for wanted in file.decisions:
        if wanted.is_in(last.get(wanted.hypothesis)):
            known.append(wanted.hypothesis)
            continue
        try:
            decision = client.decide(wanted.hypothesis, wanted.mode, strength=wanted.strength, note=wanted.note, author=author)
        except (ConnectionFailed, NotReady, Overloaded, DeadlineExceeded) as error:
            left = file.decisions[file.decisions.index(wanted) :]
            failed += [(one.hypothesis, "not recorded") for one in left if not one.is_in(last.get(one.hypothesis))]
            return Recorded(tuple(recorded), tuple(known), tuple(failed), error)
        except AssayError as error:
            failed.append((wanted.hypothesis, str(error)))
        else:
            recorded.append(decision)
    return Recorded(tuple(recorded), tuple(known), tuple(failed))


def _decision(path: Path, audit: str, number: int, entry: object) -> WantedDecision:
    place = f"decision {number}"
    record = _object(path, entry, place)
    id, mode = _text(path, record, "hypothesis"), _text(path, record, "mode").replace("-", "_")
    name, modes = hypothesis_name(audit, id), {one.value: one for one in DecisionMode}
    if not id or not name.startswith(f"{audit}/hypotheses/"):
        raise InputError(f"{path}: {place} names no hypothesis of {audit}", reason="NOT_DECISIONS")
    if mode not in modes:
        raise InputError(f"{path}: the mode of {place} is none of {', '.join(modes)}", reason="NOT_DECISIONS")
    return WantedDecision(name, modes[mode], _strength(path, record, place), _text(path, record, "note"))


def _strength(path: Path, record: Mapping[str, Any], place: str) -> float | None:
    value = record.get("strength")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise InputError(f"{path}: the strength of {place} is no number from 0", reason="NOT_DECISIONS")
    return float(value)


def _object(path: Path, value: object, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{path}: {place} is no JSON object", reason="NOT_DECISIONS")
    return cast("dict[str, Any]", value)


def _text(path: Path, record: Mapping[str, Any], name: str) -> str:
    value = record.get(name, "")
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InputError(f"{path}: {name} is no text", reason="NOT_DECISIONS")
    return value
