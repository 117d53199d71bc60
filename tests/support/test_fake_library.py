"""The fake library answers to the names that the real one answers to."""

import inspect

import pytest
from assay_server.jobs.audits.jobs import AuditJobs
from assay_server.jobs.comparisons.jobs import ComparisonJobs
from assay_server.jobs.datasets.jobs import DatasetJobs
from assay_server.jobs.datasets.run import Imports
from assay_server.jobs.operations.jobs import Operations

from tests.support.fake_library import FakeAudits, FakeComparisons, FakeDatasets, FakeImports, FakeOperations

OWN = {"begin", "end", "known", "stop"}  # of FakeOperations: what tests and other rooms of the fake call


@pytest.mark.parametrize(
    ("fake", "real", "own"),
    [
        (FakeAudits, AuditJobs, set()),
        (FakeComparisons, ComparisonJobs, set()),
        (FakeDatasets, DatasetJobs, set()),
        (FakeImports, Imports, set()),
        (FakeOperations, Operations, OWN),
    ],
)
def test_every_method_of_the_fake_is_one_of_the_real_room(fake: type, real: type, own: set[str]) -> None:
    methods = {name: method for name, method in vars(fake).items() if not name.startswith("_") and name not in own}
    assert methods
    for name, method in methods.items():
        theirs = getattr(real, name)
        assert inspect.iscoroutinefunction(method) == inspect.iscoroutinefunction(theirs), name
        kinds = [(one.name, one.kind) for one in inspect.signature(method).parameters.values()]
        assert kinds == [(one.name, one.kind) for one in inspect.signature(theirs).parameters.values()], name
