"""Fingerprints that a trainer computes itself, as the server does, so that a plan of other data or another tokenizer is refused.

    dataset_fingerprint(pairs) == client.dataset(name).fingerprint      the same pairs in the same order
    check_target(plan, PlanTarget(dataset_fingerprint=...))             raises with both fingerprints where they differ

No torch and no numpy; what needs tensors is in `assay.trl`.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from assay.errors import InvalidRequest
from assay.intervention_data import DataPlan
from assay.intervention_results import PlanTarget
from assay.interventions import Plan
from assay.pairs import Pair

_PLANS = {"model": "MODEL_MISMATCH", "tokenizer": "TOKENIZER_MISMATCH", "dataset": "DATASET_MISMATCH"}


def dataset_fingerprint(pairs: Iterable[Pair]) -> str:
    """SHA-256, hexadecimal, over the pairs' canonical JSON Lines, as `Dataset.fingerprint`.

    One object a pair with the keys chosen, id, metadata, prompt (a text, or a list of {"content", "role"}) and rejected, keys
    sorted, no spaces, everything outside ASCII escaped, a newline after each. Ids and metadata count, and so does the order.
    """
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(canonical(pair))
    return digest.hexdigest()


def canonical(pair: Pair) -> bytes:
    """The pair's line."""
    prompt: Any = pair.prompt
    if not isinstance(prompt, str):
        prompt = [{"content": one.content, "role": one.role} for one in prompt]
    line = {
        "chosen": pair.chosen,
        "id": pair.id,
        "metadata": dict(pair.metadata),
        "prompt": prompt,
        "rejected": pair.rejected,
    }
    return json.dumps(line, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def text_fingerprint(*parts: str) -> str:
    """SHA-256 of texts, framed by their lengths, hexadecimal: of a tokenizer's specification, or a chat template."""
    digest = hashlib.sha256(b"assay-text-1")
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def check_target(plan: Plan | DataPlan, target: PlanTarget) -> None:
    """Refuses to apply a plan to what it was not made for; what either side does not know is not compared.

    Raises:
        InvalidRequest: MODEL_MISMATCH, TOKENIZER_MISMATCH or DATASET_MISMATCH, with both fingerprints.
    """
    if isinstance(plan, Plan):
        name = plan.name
        made = {"model": plan.subject.model_fingerprint, "tokenizer": plan.subject.tokenizer_fingerprint}
    else:
        name = plan.plan
        made = {"tokenizer": plan.tokenizer_fingerprint}
    made["dataset"] = plan.dataset_fingerprint
    for kind, wanted in made.items():
        met = getattr(target, f"{kind}_fingerprint")
        if met and wanted and met != wanted:
            raise InvalidRequest(
                f"{name} was made for the {kind} of fingerprint {wanted}, and is applied to one of fingerprint {met}: "
                f"make a plan for this {kind}, or apply it to the one that it was made for",
                reason=_PLANS[kind],
                details={"plan": name, f"plan_{kind}_fingerprint": wanted, f"{kind}_fingerprint": met},
                code="FAILED_PRECONDITION",
            )
