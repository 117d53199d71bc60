"""Speed: what offsets cost, beside the forward passes that they need.

    python -m benchmarks.training.speed --pairs PAIRS.jsonl.gz [--count 48] [--rounds 5]

STEERING offsets need every response's log-probability twice, plain and steered. Their cost is compared with one plain pass of the
same batches through the whole model, by the same engine (the stricter comparison: it shares prompts too) and by transformers on
padded batches; contenders take turns. Reward-shaping offsets of an audited dataset should read nothing: a server's own count of
tokens read is taken before and after.
"""

from __future__ import annotations

import sys
import urllib.request
from collections.abc import Sequence
from typing import Any

import assay
import numpy as np
from assay import InterventionFamily, InterventionMode

from benchmarks.common import MODEL, SAE, arguments, client_pairs, interleave, ratio, read_pairs, serving, timed
from experiments.results import Metric, at_most, write_result

GOAL = "STEERING offsets cost at most 2.2x the forward passes they need"


def contenders(pairs: Sequence[Any], seed: int, batch_tokens: int) -> dict[str, Any]:
    """What takes its turn: each is a function of no arguments that does all batches."""
    import torch
    from assay_server.interventions.reading import tree_of
    from assay_server.interventions.spans import edited_positions
    from assay_server.interventions.types import EditedSpan
    from assay_server.subject.logprobs import LogprobRequest, Steer
    from assay_server.subject.subject import load_subject
    from assay_server.subject.types import Truncation

    subject = load_subject(str(MODEL), str(SAE), dtype="bfloat16", whole_model=True)
    reader = subject.logprobs
    assert reader is not None
    direction = np.random.default_rng(seed).standard_normal(subject.info.d_in).astype(np.float32)
    steer = Steer(8 * direction / np.linalg.norm(direction))
    tokenizer, span, how = subject.tokenizer, EditedSpan.FINAL_TURN_ON, Truncation.REFUSE
    trees = [tree_of(subject, pair, how) for pair in pairs]
    requests = [
        LogprobRequest(tree, edited_positions(tokenizer, pair, tree, span, how)) for pair, tree in zip(pairs, trees, strict=True)
    ]
    batches = _batches(requests, batch_tokens)

    def engine(*variants: Any) -> None:
        for batch in batches:
            reader.read(reader.prepare(batch), variants)

    def offsets() -> None:
        for batch in batches:
            for one in reader.read(reader.prepare(batch), (None, steer)):
                _ = one.sums[1] - one.sums[0]

    model = _whole(torch.bfloat16)
    padded = [_padded(batch) for batch in batches]

    def plain() -> None:
        with torch.inference_mode():
            for ids, mask, scored in padded:
                hidden = model.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
                logits = model.get_output_embeddings()(hidden[:, :-1][scored[:, 1:]]).float()
                torch.log_softmax(logits, -1).gather(-1, ids[:, 1:][scored[:, 1:]][:, None]).sum()

    return {"offsets": offsets, "one plain pass, engine": lambda: engine(None), "one plain pass, transformers": plain}


def stored_reads(path: str, count: int) -> dict[str, float]:
    """Tokens that a server read for the upload and audit, and then for reward-shaping offsets of every pair."""
    pairs = client_pairs(path, count)
    with serving() as where, assay.Client(f"{where['host']}:{where['port']}") as client:
        dataset = client.upload_pairs(pairs)
        client.audit(dataset, assay.AuditOptions(views=[assay.View.GLOBAL])).wait()
        before = _tokens_read(where)
        intervene = assay.Intervene("feature/0", InterventionMode.EXPLAIN_AWAY, 1.0, InterventionFamily.REWARD_SHAPING)
        plan = client.create_plan(dataset, [intervene]).wait()
        results = [one.unwrap() for one in client.offsets(plan, pairs, beta=0.1)]
        after = _tokens_read(where)
    return {"pairs": len(results), "stored": sum(one.stored for one in results), "audit": before, "offsets": after - before}


def _tokens_read(where: dict[str, Any]) -> float:
    page = urllib.request.urlopen(f"http://127.0.0.1:{where['metrics_port']}/metrics").read().decode()
    found = [float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.startswith("assay_tokens_read_total")]
    if not found:
        raise RuntimeError("the server's metrics hold no assay_tokens_read_total")
    return sum(found)


def _batches(requests: Sequence[Any], tokens: int) -> list[list[Any]]:
    batches: list[list[Any]] = [[]]
    for one in sorted(requests, key=lambda request: request.size):
        if batches[-1] and sum(other.size for other in batches[-1]) + one.size > tokens:
            batches.append([])
        batches[-1].append(one)
    return batches


def _padded(batch: Sequence[Any]) -> Any:
    """The batch's two sequences a pair, padded, as a plain script feeds them."""
    import torch
    from assay_server.subject.logprobs import SIDES, flat_ids

    rows: list[tuple[Any, Any]] = []
    for request in batch:
        ids, spans = flat_ids(request.tree), request.tree.spans
        scored = np.zeros(request.size, np.bool_)
        for side in SIDES:
            scored[spans[side]] = True
        rows += [(ids[path], scored[path]) for path in _paths(request.tree)]
    width = max(len(ids) for ids, _ in rows)
    block = np.zeros((3, len(rows), width), np.int64)
    for at, (ids, scored) in enumerate(rows):
        block[0, at, : len(ids)], block[1, at, : len(ids)], block[2, at, : len(ids)] = ids, 1, scored
    ids, mask, scored = torch.from_numpy(block)
    return ids, mask, scored.bool()


def _paths(tree: Any) -> list[Any]:
    """Flat positions of every root-to-leaf path."""
    trunk = len(tree.trunk)
    ends = trunk + np.cumsum([len(branch) for branch in tree.branches])
    parts = [np.arange(end - len(branch), end) for end, branch in zip(ends, tree.branches, strict=True)]
    return [np.concatenate([np.arange(trunk), part]) for part in parts] or [np.arange(trunk)]


def _whole(dtype: Any) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(MODEL), dtype=dtype, local_files_only=True).eval()


def metrics(seconds: dict[str, list[float]], reads: dict[str, float]) -> list[Metric]:
    """The bars."""
    engine = ratio(seconds, "offsets", "one plain pass, engine")
    plain = ratio(seconds, "offsets", "one plain pass, transformers")
    return [
        at_most("STEERING offsets, over one plain pass by the same engine", engine, "x", 2.2, GOAL),
        at_most("STEERING offsets, over one plain pass by transformers", plain, "x", 2.2, GOAL),
        at_most(
            "reward-shaping offsets of an audited dataset: tokens read",
            reads["offsets"],
            "tokens",
            0,
            "no forward pass at all",
            f"{reads['stored']:.0f} of {reads['pairs']:.0f} offsets were stored; the audit read {reads['audit']:,.0f} tokens",
        ),
    ]


def main() -> None:
    """Measure, write the result."""
    args = arguments(__doc__, pairs="", count=48, rounds=5, batch_tokens=1024, seed=0)
    pairs = read_pairs(args.pairs, args.count)
    every = contenders(pairs, args.seed, args.batch_tokens)
    for warm in every.values():
        warm()
    seconds = interleave({name: lambda work=work: timed(work) for name, work in every.items()}, args.rounds)
    reads = stored_reads(args.pairs, args.count)
    write_result("training-speed", metrics(seconds, reads), seed=args.seed, raw={"seconds": seconds, "reads": reads})


if __name__ == "__main__":
    sys.exit(main())
