"""A data directory that a release wrote, kept in the repository: what is asked of it, and what is read of it.

`scripts/write_data_directory.py` writes one, `tests/e2e/test_data_directory.py` opens each that was written. Both ask and read
by the public client alone, so that nothing here changes with the server's insides.

    {folder}/subject/model, subject/sae     the subject, whose weights no machine's random numbers decide
    {folder}/pairs/*.jsonl                  what was uploaded
    {folder}/kept                           a data directory: finished work
    {folder}/under-way                      another one, of a server that was killed: an open upload, operations that wait
    {folder}/expected.json                  what the release itself reads of them
"""

import hashlib
import json
import math
import time
from collections.abc import Iterator, Set
from dataclasses import fields, replace
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from assay import (
    Audit,
    AuditOptions,
    Client,
    ComparisonOptions,
    Concept,
    DecisionMode,
    Examples,
    Intervene,
    InterventionFamily,
    InterventionMode,
    InterventionParameters,
    Nuisance,
    Operation,
    Pair,
    Plan,
    ProbeMethod,
    PromptedResponse,
    RolloutComparison,
    ScoreStatistic,
    StoredConcept,
    View,
    chat,
)
from assay.data import read_pairs

DATASETS = ("tea", "plain", "rollouts", "noise")
OPEN_UPLOAD = "left-open"
AUDIT = AuditOptions(
    nuisances=[Nuisance.LENGTH, Nuisance.FORMAT],
    concepts=["concepts/loud", "concepts/starred"],
    max_t_flips=64,
    data_clusters=2,
    min_features=1,
    min_inside=5,
    min_firings=5,
    top_share=0.3,
    metadata_keys=["topic"],
    seed=3,
    keep=12,
    evidence=2,
)
COMPARISON = ComparisonOptions(min_telling=5, draws=100, seed=2, keep=20)
AWAY, AMPLIFY = InterventionMode.EXPLAIN_AWAY, InterventionMode.AMPLIFY
FAMILY, KNOBS = InterventionFamily, InterventionParameters


# What is asked


def ask(client: Client, pairs: Path) -> Iterator[tuple[str, Operation[Any]]]:
    """Asks for everything there is, in order, each under a request id: a second time finds what the first one made.

    Whoever iterates waits for each operation before it asks for the next.
    """
    tea, plain, rollouts, noise = (client.upload_pairs(pairs / f"{name}.jsonl") for name in DATASETS)
    yield "clusters", client.compute_clusters(tea, edge_share=0.05, min_size=3, seed=1, request_id="clusters")
    yield "starred", client.create_concept("starred", {8: 1.0, 40: 1.0}, concept_id="starred", request_id="starred")
    yield "heavy", client.create_concept("heavy", {8: 1.0, 40: 0.5}, concept_id="heavy", request_id="heavy")
    yield "loud", client.create_concept("loud", loud(), concept_id="loud", seed=1, request_id="loud")
    method = ProbeMethod.FEATURES
    yield "told", client.create_concept("told", loud(), concept_id="told", method=method, max_features=2, request_id="told")
    yield "labels", client.create_labels(tea, features=[3, 8, 40], clusters=[0], request_id="labels")
    yield "audit", client.audit(tea, AUDIT, request_id="audit")
    yield "small", client.audit(plain, AuditOptions(views=[View.GLOBAL], keep=5), display_name="small", request_id="small")
    yield "stated", client.test(tea, "concepts/loud", where=("topic", "tea"), options=AUDIT, request_id="stated")
    yield "feature", client.test(tea, "feature/8", options=AUDIT, request_id="feature")
    audit = client.operation(client.audit(tea, AUDIT, request_id="audit").name).wait()
    first, second, third = list(client.hypotheses(audit, 'view = "global"', "rank"))[:3]
    away = client.decide(first, DecisionMode.EXPLAIN_AWAY, strength=0.5, note="stars for all?", author="one", request_id="away")
    more = client.decide(second, DecisionMode.AMPLIFY, strength=2.0, note="more of it", author="two", request_id="more")
    client.decide(third, DecisionMode.KEEP, note="as it is", request_id="keep")
    decided = [Intervene(away), Intervene(more, parameters=KNOBS(statistic=ScoreStatistic.FIRING))]
    yield "decided", client.create_plan(tea, decided, plan_id="decided", display_name="decided", request_id="decided")
    yield "families", client.create_plan(tea, families(), plan_id="families", request_id="families")
    measured = "plans/families/interventions/4"
    yield "measured", client.measure_intervention(measured, [0.0, 1.0], generated_tokens=2, request_id="measured")
    prompts = ["Write with stars.", "Be calm."]
    yield "ranked", client.rank_inoculation_prompts(tea, "feature/8", prompts, rows=4, request_id="ranked")
    compared: dict[str, Any] = {"margins": [0.4, 0.2, 0.5, 0.3] * 10, "margins_of": "held out"}
    for name, more in (("compared", compared), ("weighed", {"plan": "plans/decided"})):
        yield name, client.compare_rollouts(tea, rollouts, noise, options=COMPARISON, request_id=name, **more)


def ask_and_leave(client: Client, pairs: Path) -> Iterator[tuple[str, Operation[Any]]]:
    """Asks for one piece of work of each kind, the slow ones first, and waits for none."""
    tea, rollouts, noise = (client.upload_pairs(pairs / f"{name}.jsonl") for name in ("tea", "rollouts", "noise"))
    yield "audit", client.audit(tea, AuditOptions(max_t_flips=64, min_inside=5, keep=5), request_id="audit")
    yield "clusters", client.compute_clusters(tea, edge_share=0.05, min_size=3, request_id="clusters")
    yield "plan", client.create_plan(tea, [Intervene("feature/8", AWAY)], plan_id="plan", request_id="plan")
    yield "stated", client.test(tea, "feature/8", where=("topic", "tea"), request_id="stated")
    yield "compared", client.compare_rollouts(tea, rollouts, noise, options=COMPARISON, request_id="compared")
    yield "labels", client.create_labels(tea, features=[3, 8], request_id="labels")
    yield "loud", client.create_concept("loud", loud(), concept_id="loud", request_id="loud")
    yield "ranked", client.rank_inoculation_prompts(tea, "feature/8", ["Be calm."], rows=2, request_id="ranked")


def begin_upload(client: Client, pairs: Path, count: int = 24) -> None:
    """An upload that breaks off after so many pairs."""

    def some() -> Iterator[Pair]:
        for number, pair in enumerate(read_pairs(pairs / "plain.jsonl")):
            if number == count:
                time.sleep(2.0)  # what is on its way arrives, and is on disk
                raise InterruptedError
            yield pair

    try:
        client.upload_pairs(some(), request_id=OPEN_UPLOAD)
    except InterruptedError:
        return
    raise AssertionError("the upload went through")


def loud() -> Examples:
    """Texts with exclamation marks, and texts without."""
    words = ("sage", "mint", "rain", "salt", "moss", "kiln", "amber", "delta", "fern", "lime", "opal", "wren")
    positive = [PromptedResponse(chat(f"Say {word}."), f"{word}!! {word}!!") for word in words]
    return Examples(positive, [*(f"{word}, {word}." for word in words), *(f"a {word}" for word in words)])


def families() -> list[Intervene]:
    """One intervention of each family, about a feature, a direction or something stored."""
    along = Concept.direction("along", [float(at % 3) - 1.0 for at in range(32)])
    return [
        Intervene("feature/8", AWAY, 0.5),
        Intervene(along, AWAY, 0.5, FAMILY.STEERING, KNOBS(coefficient=3.0)),
        Intervene("feature/8", AMPLIFY, 2.0, FAMILY.INOCULATION, KNOBS(prompt="Write with stars.")),
        Intervene(along, AWAY, 1.0, FAMILY.STEERING_VECTOR, KNOBS(coefficient=2.0, share=0.2)),
        Intervene("concepts/loud", AWAY, 0.8, FAMILY.ABLATION),
        Intervene("concepts/heavy", AWAY, 1.0, FAMILY.SAE_CLAMP),
        Intervene("feature/3", AWAY, 1.0, FAMILY.EXAMPLE_FILTER, KNOBS(share=0.1)),
        Intervene("cluster/0", AWAY, 1.0, FAMILY.LABEL_FLIP, KNOBS(share=0.1)),
        Intervene("feature/40", AMPLIFY, 1.5, FAMILY.REWEIGHT),
        Intervene("feature/8", AWAY, 1.0, FAMILY.TOKEN_FILTER),
        Intervene("feature/8", AWAY, 1.0, FAMILY.INOCULATION_ROWS, KNOBS(prompt="Write with stars.", share=0.2)),
        Intervene("concepts/loud", AWAY, 1.0, FAMILY.ONLINE_REWARD),
    ]


# What is read


def read_kept(client: Client, pairs: Path, scratch: Path) -> dict[str, Any]:
    """Everything that comes from the directory alone, and is to be the same to the last bit."""
    model, audits, plans = client.model(), list(client.audits()), list(client.plans())
    listed = {audit.name: list(client.hypotheses(audit)) for audit in audits}
    read: dict[str, Any] = {
        "subject": {**model.identity, "whole_model": model.whole_model_fingerprint},
        "datasets": list(client.datasets()),
        "audits": audits,
        "ranked": {audit: [one.name for one in rows] for audit, rows in listed.items()},
        "hypotheses": {one.name: client.hypothesis(one) for rows in listed.values() for one in rows},
        "filtered": {
            audit.name: [one.name for one in client.hypotheses(audit, "finding = true AND q <= 0.05", "effect desc")]
            for audit in audits
        },
        "decisions": list(client.decisions()),
        "concepts": list(client.concepts()),
        "clusters": list(client.clusters()),
        "features": client.features([3, 8, 40]),
        "plans": plans,
        "artifacts": {one.name: client.intervention(one.name).artifact for plan in plans for one in plan.interventions},
        "operations": {one.name: replace(one.status, result=None) for one in client.operations()},
        "results": {one.name: result_of(client, one) for one in client.operations()},
        "offsets": list(client.offsets("plans/decided", every_ninth(pairs), beta=0.1, dataset_pairs_only=True)),
        "data plan": client.data_plan("plans/decided").load(),
        "exported audits": {
            one.name: table(client.export_audit(one, scratch / "audit.parquet"), later=LATER_COLUMNS) for one in audits
        },
        "exported data plan": table(client.export_data_plan("plans/decided", scratch / "plan.parquet")),
    }
    return plain(read)


def result_of(client: Client, operation: Operation[Any]) -> Any:
    """What an operation made; the name alone of what has been read by it."""
    match client.operation(operation.name).wait():
        case Audit() | Plan() | StoredConcept() as made:
            return made.name
        case RolloutComparison() as made:
            assert made.plot_svg.startswith("<svg")
            return replace(made, plot_svg="")  # a picture may look otherwise tomorrow
        case made:
            return made


def read_computed(client: Client, pairs: Path) -> dict[str, Any]:
    """What the model has a part in each time: to be the same but for the last bits."""
    some = every_ninth(pairs)
    first = next(client.hypotheses(client.operation("operations/audit-audit").wait(), 'view = "global"', "rank"))
    responses = [PromptedResponse(pair.prompt, pair.chosen) for pair in some]
    return plain(
        {
            "offsets": list(client.offsets("plans/families", some)),
            "data plan": client.data_plan("plans/families").load(),
            "rewards": client.score_rewards("plans/families", responses, [1.0] * len(responses)),
            "highlights": client.hypothesis(first, highlights=True),
        }
    )


def every_ninth(pairs: Path) -> list[Pair]:
    """Some pairs of "tea", by their file."""
    return list(read_pairs(pairs / "tea.jsonl"))[::9]


LATER_COLUMNS = frozenset({"label", "detection_score", "named", "named_kind"})
"""Columns of an exported audit that releases since 02d428a added."""


def table(path: Path, *, later: Set[str] = frozenset()) -> dict[str, Any]:
    """A Parquet file by its content: columns, rows, and a digest of the rows that no version of Parquet's writers decides.

    Columns that ``later`` releases added are left out: what was written before does not have them.
    """
    read = pq.read_table(path)
    read = read.drop_columns([name for name in read.column_names if name in later])
    rows = json.dumps(plain(read.to_pylist()), sort_keys=True).encode()
    return {"columns": read.column_names, "rows": read.num_rows, "sha256": hashlib.sha256(rows).hexdigest()}


def plain(value: Any) -> Any:
    """A client's result as JSON: dataclasses by their fields, enums by their names, bytes in hexadecimal."""
    return json.loads(json.dumps(value, default=_plain))


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime):
        return value.isoformat()
    return {field.name: getattr(value, field.name) for field in fields(value)}


def differences(wanted: Any, found: Any, where: str = "", *, tolerance: float = 0.0) -> Iterator[str]:
    """Where what was found is not what was wanted. A field that only the found one has is a later release's."""
    match wanted, found:
        case dict(), dict():
            for key, value in wanted.items():
                if key in found:
                    yield from differences(value, found[key], f"{where}/{key}", tolerance=tolerance)
                else:
                    yield f"{where}/{key} is gone"
        case list(), list() if len(wanted) == len(found):
            for place, (one, other) in enumerate(zip(wanted, found, strict=True)):
                yield from differences(one, other, f"{where}/{place}", tolerance=tolerance)
        case float(), float():
            if not (
                math.isclose(wanted, found, rel_tol=tolerance, abs_tol=tolerance) or (math.isnan(wanted) and math.isnan(found))
            ):
                yield f"{where} was {wanted!r}, is {found!r}"
        case _:
            if wanted != found or type(wanted) is not type(found):
                yield f"{where} was {str(wanted)[:200]}, is {str(found)[:200]}"
