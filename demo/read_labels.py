"""Labels that were written from reading contexts, and how well they detect (``python -m demo.read_labels STEP ...``).

    contexts ITEMS OUT           of each item, the strongest contexts, to write a label from
    windows LABELS OUT ANSWERS   of each label, unseen windows in a shuffled order, to be judged; and, apart, which of them fire
    join LABELS ANSWERS VERDICTS  ``assets/read-labels.jsonl``, and the labels in ``labels.jsonl.gz`` and ``clusters.json.gz``
    apply                        the labels again, from the verdicts that ship

An item is "feature/17" or "cluster/3"; ITEMS has one a line, LABELS an item, a tab and its label, VERDICTS an item, a tab and one
0 or 1 a window, in the order of the windows. All text is the sample pairs' (``assets/pairs.jsonl``). Half of the prompts make
labels and half measure them, by the service's own rule. The windows are those of the service's own detection score
(``labelling.explaining.detect``), and so is the score: balanced accuracy. A judge sees labels and windows, and no answer.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from assay_server.cache import LruCache
from assay_server.labelling.contexts import Context, firing_contexts, silent_contexts
from assay_server.labelling.explaining import ENOUGH, HELD_OUT, balanced_accuracy, judged_contexts
from assay_server.labelling.firings import Firing, FiringsBuilder, TokenFirings
from assay_server.labelling.labels import LABEL_BAR
from assay_server.scorer import build_scorer
from assay_server.store.clusters import Cluster, load_clusters, save_clusters
from assay_server.store.pairs import prompt_id
from assay_server.subject.subject import load_subject
from assay_server.subject.types import Message, Pair

from demo import ASSETS
from demo.cluster_features import pairs_of
from demo.model import ensure_model

METHOD = "read-contexts/1"
LABELS = ASSETS / "labels.jsonl.gz"
CLUSTERS = ASSETS / "sae" / "clusters.json.gz"
VERDICTS = ASSETS / "read-labels.jsonl"
_CONTEXTS, _WIDTH = 10, 20  # to write a label from: contexts, and tokens in each
_Z = 1.959964  # of a 95% interval


@dataclass(frozen=True)
class Verdict:
    """What was said of one label: windows in the order in which they were judged.

    Attributes:
        item: "feature/17" or "cluster/3".
        label: as it was judged.
        windows: the start of each window's SHA-256.
        fires: "1" for each window in which the item fires, else "0".
        said: "1" for each window to which the label was said to apply, else "0".
        score: balanced accuracy; None where there were too few windows.
        interval: its 95% interval, by `interval`.
        round: 1 for the item's first label, 2 for a second one, and so on: judged on windows that no label before it was.
    """

    item: str
    label: str
    windows: tuple[str, ...]
    fires: str
    said: str
    score: float | None
    interval: tuple[float, float] | None
    round: int = 1

    @property
    def sure(self) -> bool:
        """Whether it was measured and is a name."""
        return self.score is not None and self.score >= LABEL_BAR


def main() -> None:
    """Parse the command line, do the step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(dest="step", required=True)
    for step, words in (
        ("contexts", "items out"),
        ("windows", "labels out answers"),
        ("join", "labels answers verdicts"),
        ("apply", ""),
    ):
        asked = steps.add_parser(step)
        for word in words.split():
            asked.add_argument(word, type=Path)
    args = parser.parse_args()
    if args.step == "contexts":
        made, _ = asyncio.run(read())
        args.out.write_text(contexts_text(made, args.items.read_text(encoding="utf-8").split()), encoding="utf-8")
    elif args.step == "windows":
        _, unseen = asyncio.run(read())
        before = windows_judged(load()) if VERDICTS.exists() else {}
        text, answers = windows_text(unseen, _columns(args.labels), before)
        args.out.write_text(text, encoding="utf-8")
        args.answers.write_text(json.dumps(answers), encoding="utf-8")
    elif args.step == "apply":
        apply(load())
    else:
        new = verdicts(_columns(args.labels), json.loads(args.answers.read_text(encoding="utf-8")), _columns(args.verdicts))
        before = load() if VERDICTS.exists() else []
        rounds = {one.item: one.round for one in before}
        found = [*before, *(replace(one, round=1 + rounds.get(one.item, 0)) for one in new)]
        write(found)
        apply(found)
        print(summary(found))


async def read(path: Path = ASSETS / "pairs.jsonl", sae: Path = ASSETS / "sae") -> tuple[TokenFirings, TokenFirings]:
    """All features on each response of the pairs: the half that makes labels, and the half that measures them."""
    scorer = build_scorer(load_subject(str(ensure_model(print)), str(sae), dtype="float32"), LruCache(1 << 20))
    features = list(range(scorer.info.d_sae))
    builders = FiringsBuilder(features), FiringsBuilder(features)
    pairs = list(pairs_of(path))
    use = {id: place % 2 for place, id in enumerate(sorted({prompt_id(pair.prompt) for pair in pairs}))}
    try:
        for pair in pairs:
            for answer in (pair.chosen, pair.rejected):
                turns = (*_turns(pair), Message("assistant", answer))
                encoded, _ = await scorer.encode_tokens(turns, features)
                kept = [place for place, token in enumerate(encoded.tokens) if token.message == len(turns) - 1]
                tokens = [encoded.tokens[place] for place in kept]
                ids, words = [token.id for token in tokens], [token.text for token in tokens]
                builders[use[prompt_id(pair.prompt)]].add(ids, words, encoded.activations[:, kept])
    finally:
        await scorer.aclose()
    return builders[0].build(), builders[1].build()


def contexts_text(made: TokenFirings, items: Iterable[str]) -> str:
    """The strongest contexts of each item, what fires between « and », and its strongest tokens."""
    parts = list[str]()
    for item in items:
        found = firing_contexts(made, firing_of(made, item), limit=_CONTEXTS, spread=False, width=_WIDTH)
        parts.append(f"## {item}: {len(found)} contexts")
        parts += [f"{_quote(context.marked)}  {_strongest(context)}" for context in found]
    return "\n".join(parts) + "\n"


def windows_text(
    unseen: TokenFirings, labels: Mapping[str, str], judged_before: Mapping[str, Sequence[str]] | None = None
) -> tuple[str, dict[str, Any]]:
    """Of each label its windows, unmarked, for a judge; and by item the windows' digests and which of them fire.

    Args:
        unseen: the half that measures.
        labels: by item.
        judged_before: digests of windows by item that are not shown again: others, between them, are.
    """
    judged_before = judged_before or {}
    parts, answers = list[str](), dict[str, Any]()
    for item, label in labels.items():
        firing, seed = firing_of(unseen, item), int(item.partition("/")[2])
        seen = set(judged_before.get(item, ()))
        judged = _other_contexts(unseen, firing, seen, seed=seed) if seen else judged_contexts(unseen, firing, seed=seed)
        answers[item] = {"windows": [digest(one.plain) for one in judged], "fires": _bits(one.fires for one in judged)}
        parts.append(f"## {item}: {label}")
        parts += [f"{number:2}: {_quote(one.plain)}" for number, one in enumerate(judged, start=1)]
    return "\n".join(parts) + "\n", answers


def _other_contexts(unseen: TokenFirings, firing: Firing, seen: set[str], *, seed: int) -> list[Context]:
    """As `judged_contexts`, of windows that were not seen: from the strongest to the weakest texts between those."""
    generator = np.random.default_rng((seed, 2))
    chosen = [*firing_contexts(unseen, firing, limit=3 * HELD_OUT, spread=True)]
    fires = [one for one in chosen if digest(one.plain) not in seen]
    drawn = silent_contexts(unseen, firing, limit=3 * HELD_OUT, generator=generator)
    silent = [one for one in drawn if digest(one.plain) not in seen][:HELD_OUT]
    each = min(HELD_OUT, len(fires), len(silent))
    if each < ENOUGH:
        return []
    spread = [fires[i] for i in np.linspace(0, len(fires) - 1, each).round().astype(int)]
    judged = [*spread, *silent[:each]]
    return [judged[i] for i in generator.permutation(len(judged))]


def firing_of(firings: TokenFirings, item: str) -> Firing:
    """Where a feature, or any feature of a cluster, fires."""
    kind, _, id = item.partition("/")
    if kind == "feature":
        return firings.firing(int(id))
    return firings.together(load_clusters(CLUSTERS, len(firings.features)).clusters[int(id)].features)


def verdicts(labels: Mapping[str, str], answers: Mapping[str, Any], said: Mapping[str, str]) -> list[Verdict]:
    """Labels with what was said and what is so. Raises ValueError where a verdict is missing."""
    found = list[Verdict]()
    for item, label in labels.items():
        fires, told = answers[item]["fires"], said.get(item, "")
        if len(told) != len(fires) or set(told) - set("01"):
            raise ValueError(f"{item}: {len(told)} verdicts on {len(fires)} windows")
        found.append(Verdict(item, label, tuple(answers[item]["windows"]), fires, told, *measured(fires, told)))
    return found


def measured(fires: str, said: str) -> tuple[float | None, tuple[float, float] | None]:
    """Balanced accuracy of verdicts and its 95% interval; None where there are too few."""
    truth, told = [one == "1" for one in fires], [one == "1" for one in said]
    score = balanced_accuracy(truth, told)
    return (None, None) if score is None else (round(score, 4), interval(truth, told))


def interval(fires: Sequence[bool], said: Sequence[bool]) -> tuple[float, float]:
    """95% interval of balanced accuracy: Wilson's of either share, squared distances added (Newcombe 1998, method 10)."""
    shares = [_wilson([said[i] == truth for i, is_so in enumerate(fires) if is_so == truth]) for truth in (True, False)]
    middle = sum(share for share, _, _ in shares) / 2
    down = math.hypot(*(share - low for share, low, _ in shares)) / 2
    up = math.hypot(*(high - share for share, _, high in shares)) / 2
    return round(max(0.0, middle - down), 4), round(min(1.0, middle + up), 4)


def load(path: Path = VERDICTS) -> list[Verdict]:
    """The verdicts that ship."""
    found = list[Verdict]()
    for line in path.read_text(encoding="utf-8").splitlines():
        record: dict[str, Any] = json.loads(line)
        bounds = record.pop("interval")
        windows = tuple(record.pop("windows"))
        found.append(Verdict(**record, windows=windows, interval=(bounds[0], bounds[1]) if bounds else None))
    return found


def write(found: Sequence[Verdict], path: Path = VERDICTS) -> None:
    """Write the verdicts, one JSON object a label."""
    lines = (json.dumps(asdict(one), ensure_ascii=False, separators=(",", ":")) + "\n" for one in found)
    path.write_text("".join(lines), encoding="utf-8")


def apply(found: Sequence[Verdict], labels: Path = LABELS, clusters: Path = CLUSTERS) -> None:
    """Put the labels that stand into the files that a server reads; a feature's label from tokens stays beside it.

    An item's last label stands where it was measured and reaches `LABEL_BAR`. A feature's stands below that too, as an unsure
    one, where its label from tokens does not reach the bar either; a cluster goes on being called by its members.
    """
    read = {item: one for item, one in last(found).items() if one.score is not None}
    records: list[dict[str, Any]] = [json.loads(line) for line in gzip.decompress(labels.read_bytes()).decode().splitlines()]
    for record in records:
        record.update(record.pop("from_tokens", {}))
        record.pop("detection_interval", None)
        one = read.get(f"feature/{record['id']}")
        if one and (one.sure or (record["detection_score"] or 0.0) < LABEL_BAR):
            record["from_tokens"] = {key: record[key] for key in ("label", "label_method", "detection_score")}
            record.update(label=one.label, label_method=METHOD, detection_score=one.score, detection_interval=one.interval)
    lines = "".join(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n" for record in records)
    labels.write_bytes(gzip.compress(lines.encode(), 9, mtime=0))
    stored = load_clusters(clusters, len(records))
    named = tuple(_renamed(one, read.get(f"cluster/{one.id}")) for one in stored.clusters)
    save_clusters(clusters, replace(stored, clusters=named))


def last(found: Sequence[Verdict]) -> dict[str, Verdict]:
    """The last label of each item."""
    return {one.item: one for one in found}


def windows_judged(found: Sequence[Verdict]) -> dict[str, tuple[str, ...]]:
    """The windows on which any label of an item was judged, over all rounds."""
    judged: dict[str, tuple[str, ...]] = {}
    for one in found:
        judged[one.item] = (*judged.get(one.item, ()), *one.windows)
    return judged


def summary(found: Sequence[Verdict]) -> str:
    """How many labels there are and how well they detect, as the README says it."""
    told = []
    for number in sorted({one.round for one in found}):
        scores = np.array([one.score for one in found if one.round == number and one.score is not None])
        passed = int((scores >= LABEL_BAR).sum())
        told.append(
            f"round {number}: {len(scores)} labels, mean {scores.mean():.3f}, {passed} ({passed / len(scores):.0%}) reach the bar"
        )
    features = [one for item, one in last(found).items() if item.startswith("feature/")]
    clusters = [one for item, one in last(found).items() if item.startswith("cluster/")]
    told.append(
        f"in the end {sum(one.sure for one in features)} of {len(features)} features and "
        f"{sum(one.sure for one in clusters)} of {len(clusters)} clusters do"
    )
    return "; ".join(told)


def digest(text: str) -> str:
    """The start of a text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _turns(pair: Pair) -> tuple[Message, ...]:
    if isinstance(pair.prompt, str):
        raise ValueError("the sample pairs have chat prompts")
    return pair.prompt


def _renamed(cluster: Cluster, read: Verdict | None) -> Cluster:
    if read is None or not read.sure:
        return replace(cluster, label="", label_method="", detection_score=None)
    return replace(cluster, label=read.label, label_method=METHOD, detection_score=read.score)


def _wilson(right: Sequence[bool]) -> tuple[float, float, float]:
    """A share with its Wilson interval: share, low, high."""
    n, share = len(right), sum(right) / len(right)
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return share, centre - half, centre + half


def _columns(path: Path) -> dict[str, str]:
    """A file of two columns."""
    lines = [line.split("\t", 1) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return {line[0]: line[-1] for line in lines}


def _strongest(context: Context) -> str:
    order = sorted(range(len(context.words)), key=lambda i: -context.activations[i])[:3]
    return ", ".join(f"{_quote(context.words[i])} {context.activations[i]:.1f}" for i in order if context.activations[i] > 0)


def _bits(values: Iterable[bool]) -> str:
    return "".join("1" if value else "0" for value in values)


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


if __name__ == "__main__":
    main()
