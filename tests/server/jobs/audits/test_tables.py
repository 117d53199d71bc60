"""Result tables go to Parquet and come back bit for bit, and their fingerprint sees every bit."""

import io
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from assay_server.audit.concentration import UNKNOWN
from assay_server.audit.findings import Condition, Effects, Evidence, TestedConcept, TestTable, ViewKind
from assay_server.audit.reason import Reason
from assay_server.jobs.audits.tables import (
    exported,
    fingerprint,
    from_parquet,
    head_of,
    hypothesis_id,
    parse_hypothesis_id,
    to_parquet,
)
from assay_server.jobs.audits.types import LabelText, NamedText


def make_effects(rng: np.random.Generator, rows: int, p_max_t: bool) -> Effects:
    numbers = {name: rng.normal(size=rows) for name in ("estimate", "low", "high", "z", "p", "q", "q_by")}
    reason = rng.choice([reason.value for reason in Reason], rows).astype(np.uint8)
    return Effects(**numbers, p_max_t=rng.random(rows) if p_max_t else None, reason=reason)


def make_table(
    view: ViewKind = ViewKind.FEATURE_CONDITIONED, rows: int = 12, seed: int = 0, controlled: bool = True
) -> TestTable:
    rng = np.random.default_rng(seed)
    conditioned = view in (ViewKind.FEATURE_CONDITIONED, ViewKind.PROMPT_CONDITIONED)
    concepts = tuple(TestedConcept(f"cluster/{i}", tuple(range(i, 2 * i + 1)), i + 1) for i in range(4))
    conditions = tuple(Condition(f"data-cluster/{i}", (9, 3, i)) for i in range(3)) if conditioned else ()
    return TestTable(
        view=view,
        concepts=concepts,
        conditions=conditions,
        concept=np.concatenate([np.arange(min(4, rows)), rng.integers(0, 4, max(0, rows - 4))]),
        condition=rng.integers(0, 2, rows) if conditioned else np.full(rows, -1, np.int64),
        raw=make_effects(rng, rows, p_max_t=not conditioned),
        controlled=make_effects(rng, rows, p_max_t=False) if controlled else None,
        finding=rng.random(rows) < 0.5,
        cohen_d=rng.normal(size=rows),
        consistent=rng.random(rows) < 0.5,
        delta_min=rng.random(rows),
        inside=rng.integers(0, 99, rows),
        outside=rng.integers(0, 99, rows),
        prompts=rng.integers(0, 99, rows),
        rank_first_half=rng.integers(1, 99, rows),
        rank_second_half=rng.integers(1, 99, rows),
        rank_stable=rng.random(rows) < 0.5,
        tests=rows + 7,
        findings_raw=3,
        findings_controlled=2,
        reason="" if rows else "there was nothing to test",
        evidence=tuple(
            Evidence(
                rng.integers(0, 50, 3),
                rng.normal(size=3),
                rng.integers(0, 50, i),
                rng.normal(size=i),
                rng.normal(size=3) if controlled else None,
                rng.normal(size=i) if controlled else None,
            )
            for i in range(min(rows, 5))
        ),
        note="some pairs are silent",
        only_chosen=_blank_from(3, rng.integers(0, 99, rows)),
        only_rejected=_blank_from(3, rng.integers(0, 99, rows)),
        carried_by=_blank_from(2, rng.random(rows)),
        left_without_top=_blank_from(2, rng.random(rows)) if controlled else None,
        members=tuple(np.sort(rng.choice(99, 5 * i, replace=False)) for i in range(3)) if conditioned else (),
    )


def _blank_from(first: int, column: Any) -> Any:
    """As the audit leaves what it does not know; None, as it is read back, where it knows nothing."""
    column[first:] = UNKNOWN
    return column if len(column) else None


def same(one: Any, other: Any) -> bool:
    if is_dataclass(one):
        return type(one) is type(other) and all(same(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    if isinstance(one, tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, np.ndarray):
        return bool(one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes())
    return bool(one == other)


@pytest.mark.parametrize("controlled", [True, False])
@pytest.mark.parametrize("rows", [0, 4, 12])
@pytest.mark.parametrize("view", list(ViewKind))
def test_a_table_comes_back_bit_for_bit(view: ViewKind, rows: int, controlled: bool) -> None:
    table = make_table(view, rows, controlled=controlled)
    again = from_parquet(*to_parquet(table), head_of(table, 5))
    named = replace(table, concepts=table.concepts if rows else ())
    if not rows and named.raw.p_max_t is not None:  # nothing says whether an empty column was made
        named = replace(named, raw=replace(named.raw, p_max_t=None))
    assert same(again, named)
    if rows:
        assert fingerprint({view: again}) == fingerprint({view: table})


def test_the_fingerprint_sees_the_last_bit_of_every_number_and_every_word() -> None:
    table = make_table()
    seen = {fingerprint({table.view: table})}
    changed: list[TestTable] = [
        replace(table, note="other"),
        replace(table, tests=1),
        replace(table, members=(*table.members[:2], table.members[2][1:])),
        replace(table, conditions=(*table.conditions[:2], Condition("data-cluster/9"))),
        replace(table, finding=~table.finding),
        replace(table, evidence=table.evidence[:-1]),
    ]
    for name in ("estimate", "q_by"):
        value = getattr(table.raw, name).copy()
        value[3] = np.nextafter(value[3], 2)
        changed.append(replace(table, raw=replace(table.raw, **{name: value})))
    seen |= {fingerprint({table.view: one}) for one in changed}
    assert len(seen) == 1 + len(changed)
    assert fingerprint({table.view: make_table()}) in seen


def test_pandas_reads_all_views_of_an_audit_as_one_table() -> None:
    tables = [make_table(ViewKind.GLOBAL, 4), make_table(ViewKind.PROMPT_CONDITIONED, 6, controlled=True)]
    labels = {"cluster/0": LabelText("bold", "by hand", 0.75), "cluster/1": LabelText("no score")}
    files = [to_parquet(table)[0] for table in tables]
    named = {"cluster/0": NamedText("bold text", "descriptor", 0.9)}
    frame = pd.read_parquet(io.BytesIO(exported(files, lambda name, features: labels.get(name, LabelText()), named)))
    assert list(frame["id"]) == [f"global-{i}" for i in range(1, 5)] + [f"prompt-{i}" for i in range(1, 7)]
    assert frame["raw_estimate"].tolist()[4:] == tables[1].raw.estimate.tolist()
    assert frame["condition"].isna().tolist() == [True] * 4 + [False] * 6
    assert frame["label"].tolist() == [labels.get(name, LabelText()).text for name in frame["concept"]]
    assert "bold" in set(frame["label"])
    scored = frame["detection_score"].notna()
    assert scored.tolist() == (frame["label"] == "bold").tolist()
    assert frame.columns.tolist().index("label") == frame.columns.tolist().index("concept_size") + 1
    assert (frame["named"] == "bold text").tolist() == (frame["label"] == "bold").tolist()
    assert (frame["named_kind"] == "descriptor").tolist() == frame["named"].notna().tolist()
    assert set(frame["raw_reason"]) <= {reason.text for reason in Reason}


@pytest.mark.parametrize("view", list(ViewKind))
def test_ids_of_hypotheses_are_read_back(view: ViewKind) -> None:
    assert parse_hypothesis_id(hypothesis_id(view, 17)) == (view, 17)


@pytest.mark.parametrize("id", ["", "global", "global-", "global-0", "global-01", "global--1", "other-1", "global-1²", "-1"])
def test_what_is_no_id_of_a_hypothesis_is_none(id: str) -> None:
    assert parse_hypothesis_id(id) is None
