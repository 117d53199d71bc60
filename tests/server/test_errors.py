"""The family of errors: the reason that each kind gives where whoever raises it gives none, which programs switch on."""

import importlib
import pkgutil

import assay_server
import pytest
from assay_server.errors import AssayError

REASONS = {
    "AssayError": "INTERNAL",
    "BadClusters": "BAD_CLUSTERS",
    "BadLabels": "BAD_LABELS",
    "Cancelled": "CANCELLED",
    "ConfigError": "INVALID_CONFIG",
    "ContextOverflow": "CONTEXT_OVERFLOW",
    "DataDirInUse": "DATA_DIR_IN_USE",
    "DataLoss": "DATA_LOSS",
    "EmptySpan": "EMPTY_SPAN",
    "EndpointFailed": "LABEL_ENDPOINT_FAILED",
    "EndpointRefused": "LABEL_ENDPOINT_REFUSED",
    "EngineFailure": "ENGINE_FAILURE",
    "Expired": "DEADLINE_EXPIRED",
    "FailedPrecondition": "FAILED_PRECONDITION",
    "InvalidItem": "INVALID_ARGUMENT",
    "MessageTooLarge": "MESSAGE_TOO_LARGE",
    "NotFound": "NOT_FOUND",
    "NotReady": "LOADING",
    "Overloaded": "OVERLOADED",
    "ShardGone": "SHARD_GONE",
    "SubjectMismatch": "SUBJECT_MISMATCH",
    "Unauthenticated": "UNAUTHENTICATED",
}


def family(root: type[AssayError] = AssayError) -> list[type[AssayError]]:
    return [root, *(one for child in root.__subclasses__() for one in family(child))]


@pytest.fixture(scope="module")
def kinds() -> dict[str, type[AssayError]]:
    for module in pkgutil.walk_packages(assay_server.__path__, "assay_server."):
        importlib.import_module(module.name)
    return {kind.__name__: kind for kind in family() if kind.__module__.startswith("assay_server.")}


def test_every_kind_of_error_has_a_reason_of_its_own(kinds: dict[str, type[AssayError]]) -> None:
    assert {name: kind.default_reason for name, kind in kinds.items()} == REASONS


@pytest.mark.parametrize("name", REASONS)
def test_an_error_says_its_kinds_reason_or_the_one_that_it_is_given(kinds: dict[str, type[AssayError]], name: str) -> None:
    more = {"retry_after_seconds": 1.0} if name == "Overloaded" else {}
    assert kinds[name]("What and why.", **more).reason == REASONS[name]
    assert kinds[name]("What and why.", reason="ANOTHER", **more).reason == "ANOTHER"
