"""Options of an audit: every default, every bound, and what the audit says of them afterwards."""

import math
from typing import Any

import pytest
from assay.v1 import audit_pb2, audit_service_pb2, model_pb2
from assay_server.audit.findings import AuditOptions, ViewKind
from assay_server.errors import InvalidItem
from assay_server.jobs.audits.types import AuditSettings, ConceptFamily, Nuisance
from assay_server.rpc.audits import messages
from assay_server.rpc.audits.requests import read_settings, read_stated
from assay_server.rpc.specs import Bounds
from hypothesis import given
from hypothesis import strategies as st

BOUNDS = Bounds(model_pb2.Limits(max_concepts=4), 32, 96)


def refused(message: audit_pb2.AuditOptions) -> InvalidItem:
    with pytest.raises(InvalidItem) as caught:
        read_settings(message, BOUNDS)
    return caught.value


def test_nothing_set_is_the_methods_defaults() -> None:
    assert read_settings(audit_pb2.AuditOptions(), BOUNDS) == AuditSettings()
    assert read_settings(audit_pb2.AuditOptions(), BOUNDS, stated=True) == AuditSettings(AuditOptions(views=(ViewKind.STATED,)))


def test_an_audit_says_every_default_in_its_own_words() -> None:
    message = messages.settings(AuditSettings())
    unset = {field.name for field in message.DESCRIPTOR.fields} - {field.name for field, _ in message.ListFields()}
    counts = {"data_clusters", "prompt_clusters", "response_clusters", "control_pairs"}
    assert unset == {"concepts", "min_firings", "metadata_keys", "seed", *counts}
    assert message.correction == audit_pb2.CORRECTION_BENJAMINI_HOCHBERG
    assert (message.tau, message.max_t_flips, message.keep) == (0.01, 1024, 1000)
    assert list(message.nuisances) == [audit_pb2.NUISANCE_LENGTH]
    assert list(messages.settings(AuditSettings(nuisances=())).nuisances) == [audit_pb2.NUISANCE_UNSPECIFIED]


shares = st.floats(0, 1, exclude_min=True, exclude_max=True)
counts = st.integers(1, 2**31 - 1)
clusters = st.integers(0, 1 << 16)
ids = st.from_regex(r"concepts/[a-z0-9]{1,8}", fullmatch=True)


def some(values: st.SearchStrategy[Any], least: int = 0, most: int = 4) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(values, unique=True, min_size=least, max_size=most).map(tuple)


@given(
    st.builds(
        AuditSettings,
        statistics=st.builds(
            AuditOptions,
            views=some(st.sampled_from([view for view in ViewKind if view is not ViewKind.STATED]), 1),
            tau=st.floats(0, 1, exclude_max=True),
            q_level=shares,
            interval_level=shares,
            yekutieli=st.booleans(),
            max_t_flips=st.integers(0, 1024).map(lambda n: 64 * n),
            data_clusters=clusters,
            silent_percentile=st.floats(0, 100, exclude_max=True),
            min_features=counts,
            min_inside=counts,
            min_firings=st.integers(0, 2**31 - 1),
            prompt_clusters=clusters,
            response_clusters=clusters,
            top_share=shares,
            seed=st.integers(0, 2**64 - 1),
            keep=st.integers(1, 10_000),
            evidence=st.integers(0, 50),
            control_pairs=st.integers(0, 20_000),
        ),
        families=some(st.sampled_from(list(ConceptFamily)), 1),
        concepts=some(ids),
        nuisances=some(st.sampled_from(list(Nuisance))),
        metadata_keys=some(st.text(max_size=20), most=8),
    )
)
def test_what_an_audit_says_of_its_options_repeats_it(settings: AuditSettings) -> None:
    message = audit_pb2.AuditOptions.FromString(messages.settings(settings).SerializeToString())
    assert read_settings(message, BOUNDS) == settings


OUT = {
    "tau": (-0.1, 1.0, 2.0, -1e-300),
    "q_level": (0.0, 1.0, -1.0),
    "interval_level": (0.0, 1.0),
    "max_t_flips": (-64, 65_600),
    "silent_percentile": (-1.0, 100.0),
    "min_features": (0, -1),
    "min_inside": (0, -5),
    "min_firings": (0, -1),
    "top_share": (0.0, 1.0),
    "keep": (0, 10_001),
    "evidence": (-1, 51),
    "data_clusters": (-1, 65_537),
    "prompt_clusters": (-1, 65_537),
    "response_clusters": (-1, 65_537),
    "control_pairs": (-1, 20_001),
}
NUMBERS = [field.name for field in audit_pb2.AuditOptions.DESCRIPTOR.fields if field.name in OUT]
FLOATS = [name for name in NUMBERS if isinstance(OUT[name][0], float)]


def test_every_number_of_the_options_is_bounded_or_any_number_at_all() -> None:
    kinds = {
        field.name for field in audit_pb2.AuditOptions.DESCRIPTOR.fields if not field.is_repeated and field.enum_type is None
    }
    assert kinds - set(OUT) == {"seed", "local"}


def test_features_by_max_are_tested_unless_they_are_turned_off() -> None:
    assert read_settings(audit_pb2.AuditOptions(), BOUNDS).statistics.local
    off = read_settings(audit_pb2.AuditOptions(local=False), BOUNDS)
    assert not off.statistics.local
    assert read_settings(messages.settings(off), BOUNDS) == off


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in NUMBERS for value in OUT[name]])
def test_a_number_out_of_bounds_is_refused_by_name_and_value(name: str, value: float) -> None:
    error = refused(audit_pb2.AuditOptions(**{name: value}))
    assert (error.reason, error.field) == ("OUT_OF_RANGE", f"options.{name}")
    assert error.message.startswith(f"{name} is {value}; give a number in ")
    assert error.details[name] == str(value)


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_finite_number_is_refused(name: str, value: float) -> None:
    assert refused(audit_pb2.AuditOptions(**{name: value})).reason == "OUT_OF_RANGE"


@pytest.mark.parametrize(
    ("fields", "reason", "path"),
    [
        ({"max_t_flips": 100}, "OUT_OF_RANGE", "options.max_t_flips"),
        ({"views": [0]}, "UNKNOWN_ENUM_VALUE", "options.views[0]"),
        ({"views": [1, 9]}, "UNKNOWN_ENUM_VALUE", "options.views[1]"),
        ({"views": [1, 4]}, "INVALID_VIEW", "options.views[1]"),
        ({"views": [1, 2, 1]}, "DUPLICATE_VALUE", "options.views[2]"),
        ({"families": [0]}, "UNKNOWN_ENUM_VALUE", "options.families[0]"),
        ({"families": [1, 1]}, "DUPLICATE_VALUE", "options.families[1]"),
        ({"nuisances": [1, 0]}, "UNKNOWN_ENUM_VALUE", "options.nuisances[1]"),
        ({"nuisances": [0, 0]}, "UNKNOWN_ENUM_VALUE", "options.nuisances[0]"),
        ({"correction": 7}, "UNKNOWN_ENUM_VALUE", "options.correction"),
        ({"concepts": ["feature/1"]}, "INVALID_NAME", "options.concepts[0]"),
        ({"concepts": ["concepts/../a"]}, "INVALID_NAME", "options.concepts[0]"),
        ({"concepts": ["concepts/a", "concepts/a"]}, "DUPLICATE_VALUE", "options.concepts[1]"),
        ({"concepts": [f"concepts/{n}" for n in range(5)]}, "LIMIT_EXCEEDED", "options.concepts"),
        ({"metadata_keys": [str(n) for n in range(9)]}, "LIMIT_EXCEEDED", "options.metadata_keys"),
        ({"metadata_keys": ["a", "é" * 513]}, "TEXT_TOO_LONG", "options.metadata_keys[1]"),
    ],
)
def test_what_cannot_be_is_refused_in_its_place(fields: dict[str, Any], reason: str, path: str) -> None:
    error = refused(audit_pb2.AuditOptions(**fields))
    assert (error.reason, error.field) == (reason, path)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("feature/017", "feature/17"),
        ("feature/017@max", "feature/17@max"),
        ("cluster/3", "cluster/3"),
        ("word/a@max", "word/a@max"),
    ],
)
def test_what_can_be_stated_is_read_by_its_name(given: str, read: str) -> None:
    assert read_stated(audit_service_pb2.TestHypothesisRequest(concept=given), BOUNDS) == (read, None)


@pytest.mark.parametrize("wrong", ["cluster/3@max", "concepts/x@max", "feature/@max", "feature/17@min"])
def test_what_cannot_be_stated_is_refused_with_what_can(wrong: str) -> None:
    with pytest.raises(InvalidItem, match=r'give "concepts/\{id\}", "feature/17", "feature/17@max", "cluster/3"') as caught:
        read_stated(audit_service_pb2.TestHypothesisRequest(concept=wrong), BOUNDS)
    assert caught.value.field == "concept"
    with pytest.raises(InvalidItem):  # a prompt's features are told by frequency
        read_stated(audit_service_pb2.TestHypothesisRequest(concept="feature/1", prompt_concept="feature/1@max"), BOUNDS)
