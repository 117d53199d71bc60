"""Fingerprints of a trainer's model, tokenizer and data: equal to the server's, and held to a plan's."""

import subprocess
import sys

import pytest
import torch
from assay import InterventionFamily, InvalidRequest, Pair, PlanTarget
from assay.trl import dataset_fingerprint, model_fingerprint, pairs_of, plan_target, tokenizer_fingerprint

from tests.client.training.conftest import Served
from tests.client.training.policies import dataset_of, policy
from tests.support.tiny_subject import build_parts


def test_fingerprints_are_the_servers(served: Served) -> None:
    model, tokenizer, _ = build_parts()
    info = served.client.model()
    assert model_fingerprint(model, info.hook, info.dtype) == info.model_fingerprint
    assert model_fingerprint(model.bfloat16(), info.hook, info.dtype) != info.model_fingerprint  # other weights
    assert tokenizer_fingerprint(tokenizer) == info.tokenizer_fingerprint
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer(["a", "abc"], padding=True, truncation=True, max_length=2)  # leaves its mark on the tokenizer's specification
    assert tokenizer_fingerprint(tokenizer) == info.tokenizer_fingerprint
    assert dataset_fingerprint(served.pairs) == served.dataset.fingerprint
    assert dataset_fingerprint(pairs_of(dataset_of(served.pairs))) == served.dataset.fingerprint


def test_metadata_ids_order_and_every_character_count(served: Served) -> None:
    pair = Pair("a", "b", "c", id="d", metadata={"k": "é\n"})
    others = [Pair("a", "b", "c", id="e", metadata={"k": "é\n"}), Pair("a", "b", "c", id="d"), Pair("a", "c", "b", id="d")]
    assert len({dataset_fingerprint([one]) for one in (pair, *others)}) == 4
    assert dataset_fingerprint([pair, others[0]]) != dataset_fingerprint([others[0], pair])
    assert served.client.upload_pairs([pair, others[0]]).fingerprint == dataset_fingerprint([pair, others[0]])


def test_a_plan_refuses_what_it_was_not_made_for_on_both_sides(served: Served) -> None:
    plan = served.plan(InterventionFamily.REWARD_SHAPING)
    model, tokenizer = policy()
    target = plan_target(plan, model=model, tokenizer=tokenizer, dataset=served.pairs)
    assert target == PlanTarget(plan.subject.model_fingerprint, plan.subject.tokenizer_fingerprint, served.dataset.fingerprint)
    assert len(list(served.client.offsets(plan, served.pairs[:3], target=target))) == 3
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight[0, 0] += 1
    wrong = {"model": {"model": model}, "dataset": {"dataset": served.pairs[::-1]}}
    for kind, given in wrong.items():
        with pytest.raises(InvalidRequest) as refused:
            plan_target(plan, **given)
        assert refused.value.reason == f"{kind.upper()}_MISMATCH"
        made, met = (refused.value.details[name] for name in (f"plan_{kind}_fingerprint", f"{kind}_fingerprint"))
        assert made in refused.value.message
        assert met in refused.value.message
        assert made != met
    with pytest.raises(InvalidRequest) as refused:
        list(served.client.offsets(plan, served.pairs[:3], target=PlanTarget(dataset_fingerprint="0" * 64)))
    assert refused.value.reason == "DATASET_MISMATCH"
    assert served.dataset.fingerprint in refused.value.message


def test_without_trl_the_error_names_the_command_that_installs_it() -> None:
    code = "import sys; sys.modules['trl'] = None\nimport assay\ntry: import assay.trl\n"
    code += "except assay.MissingExtra as error: print(error)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'assay[trl]'" in done.stdout
