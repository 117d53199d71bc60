"""A feature that an audit tests by its largest activation can be stated, and the test is the audit's."""

from dataclasses import replace
from pathlib import Path

import pytest
from assay_server.audit.findings import ViewKind
from assay_server.audit.shards import BY_MAX
from assay_server.errors import InvalidItem, NotFound
from assay_server.jobs.audits.types import ConceptFamily
from assay_server.scorer import Scorer
from assay_server.store.clusters import Cluster, StoredClusters

from tests.server.jobs.worlds import QUICK, audit, lesson, only, open_library, upload
from tests.support.tiny_subject import FEATURES

SHIPPED = StoredClusters(FEATURES, (Cluster(0, (1, 2, 3)),))
LOOSE = replace(QUICK.statistics, views=(ViewKind.GLOBAL,), tau=0.3, keep=5000)  # short responses: much is under a tau so large


async def test_a_feature_by_max_is_stated_as_the_audit_tests_it(tmp_path: Path, scorer: Scorer) -> None:
    async with open_library(tmp_path, scorer, shipped=SHIPPED) as library:
        dataset = await upload(library, [pair for pair in lesson(50, prompts=40) if pair.rejected])
        asked = replace(only(ViewKind.GLOBAL), statistics=LOOSE, families=(ConceptFamily.FEATURES,))
        rows = (await library.audits.result((await audit(library, dataset, asked)).name)).hypotheses
        by_name = {row.concept.name: row for row in rows}
        local = [row for name, row in by_name.items() if name.endswith(BY_MAX)]
        found = next(row for row in local if row.raw.estimate != by_name[row.concept.name.removesuffix(BY_MAX)].raw.estimate)
        operation = await library.operations.wait((await library.audits.test(dataset, found.concept.name, None, asked)).name, 120)
        assert operation.error is None
        stated = (await library.audits.hypothesis(operation.response)).hypothesis
        assert (stated.concept.name, stated.concept.features) == (found.concept.name, found.concept.features)
        assert stated.raw.estimate == found.raw.estimate
        assert stated.raw.p == pytest.approx(found.raw.p)
        with pytest.raises(InvalidItem, match=r"cluster/0@max cannot be stated.*feature/ID@max, or cluster/0"):
            await library.audits.test(dataset, f"cluster/0{BY_MAX}", None, asked)
        with pytest.raises(NotFound):
            await library.audits.test(dataset, f"feature/{FEATURES}{BY_MAX}", None, asked)
