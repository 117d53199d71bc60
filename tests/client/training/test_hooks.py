"""Edits of the residual stream: the formulas in float64, where they act, that gradients flow, that nothing is left behind."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from assay import (
    AblationBasis,
    CompiledIntervention,
    EditedSpan,
    Intervene,
    InterventionArtifact,
    InterventionFamily,
    InterventionMode,
    InterventionParameters,
    InvalidRequest,
    ResponseSide,
    SaeClamp,
    SteeringVector,
)
from assay import Tensor as Plain
from assay.hooks import Sequences, ablation, clamp, intervened, steering
from assay.hooks_positions import Given, Where
from assay_server.interventions.spans import edited_positions
from assay_server.interventions.types import EditedSpan as ServerSpan
from assay_server.interventions.vectors import steer
from assay_server.subject.tokenize import TreeTokenizer
from assay_server.subject.types import Message, PromptedResponse, SpanName, Truncation
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel

from tests.client.training.conftest import Served
from tests.client.training.policies import policy
from tests.server.jobs.plans.worlds import whole_subject
from tests.support.ablation import ablate
from tests.support.chat_tokenizers import build_tokenizer
from tests.support.tiny_subject import FEATURES, HOOK, WIDTH, build_parts

RNG = np.random.default_rng(5)
VECTOR = RNG.normal(size=WIDTH)
VECTOR /= np.linalg.norm(VECTOR)
BASIS = np.linalg.qr(RNG.normal(size=(WIDTH, 3)))[0]
MEAN = RNG.normal(size=WIDTH)


def plain(values: Any) -> Plain:
    array = np.asarray(values, "<f4")
    return Plain("float32", array.shape, array.tobytes())


def artifact(kind: Any, span: EditedSpan = EditedSpan.ALL, side: ResponseSide = ResponseSide.BOTH, hook: str = HOOK) -> Any:
    return InterventionArtifact(kind, hook, "model.layers.0:output", "float32", side, span)


STEER = SteeringVector(plain(VECTOR), -1.5, 1.5)
ABLATE = AblationBasis(plain(BASIS), plain(MEAN), 0.75)


@contextmanager
def watching(model: Any, block: int = 0) -> Iterator[list[Tensor]]:
    """Residuals that the next block meets (after an edit), or the block itself where there is no next."""
    seen: list[Tensor] = []
    blocks = (model.get_base_model() if hasattr(model, "get_base_model") else model).model.layers
    handle = blocks[block + 1].register_forward_pre_hook(lambda module, args: seen.append(args[0].detach().clone()))
    try:
        yield seen
    finally:
        handle.remove()


def residuals(model: Any, ids: Tensor, **inputs: Any) -> Tensor:
    with watching(model) as seen, torch.no_grad():
        model(input_ids=ids, **inputs)
    return seen[0]


def some_ids(rows: int = 2, tokens: int = 9) -> Tensor:
    return torch.randint(2, 258, (rows, tokens), generator=torch.Generator().manual_seed(7))


def test_steering_and_ablation_are_the_servers_formulas_in_float64() -> None:
    model = policy()[0].double()
    before = residuals(model, some_ids())
    with steering(model, artifact(STEER)) as edit:
        steered = residuals(model, some_ids())
    with ablation(model, artifact(ABLATE)):
        ablated = residuals(model, some_ids())
    vector, basis, mean = (np.asarray(one.values()).reshape(one.shape) for one in (STEER.vector, ABLATE.basis, ABLATE.mean))
    assert edit.tokens == 16
    for after, formula in ((steered, steer(before[:, 1:], vector, -1.5)), (ablated, ablate(before[:, 1:], basis, mean, 0.75))):
        np.testing.assert_allclose(after[:, 1:].numpy(), formula, atol=1e-12, rtol=0)
        assert torch.equal(after[:, 0], before[:, 0])  # the stream's outlier
    assert torch.equal(residuals(model, some_ids()), before)


def test_a_clamp_is_h_plus_the_missing_activation_along_the_decoder_in_float64() -> None:
    model, _, sae = build_parts()
    model, sae = model.double(), sae.double()
    features, values = (3, 8, 40), (0.0, 2.5, 1.0)
    decoder = plain(sae.W_dec[list(features)].float().numpy())
    kind = SaeClamp("tiny/topk", "", features, values, decoder)
    before = residuals(model, some_ids())
    with clamp(model, artifact(kind), sae=sae):
        after = residuals(model, some_ids())
    acts = sae.encode(before[:, 1:])[..., list(features)].numpy()
    rows = np.asarray(decoder.values()).reshape(decoder.shape)
    wanted = before[:, 1:].numpy() + (np.asarray(values) - acts) @ rows
    np.testing.assert_allclose(after[:, 1:].numpy(), wanted, atol=1e-12, rtol=0)
    assert not torch.equal(after, before)


def test_a_hand_computed_example() -> None:
    """h = (3, 4, 0, ...), Q = e1, mean = e1, half the strength: the first entry goes from 3 to 3 - 0.5 (3 - 1) = 2."""
    model = policy()[0]
    e1 = np.eye(WIDTH)[0]
    half = AblationBasis(plain(e1[:, None]), plain(e1), 0.5)
    h = torch.zeros(1, 2, WIDTH)
    h[..., 0], h[..., 1] = 3.0, 4.0
    with ablation(model, artifact(half)) as edit:
        edit.inner(model, (torch.tensor([[5, 6]]),), {})
        after = edit.apply(torch.zeros(1), h)
    assert after[0, 1, :3].tolist() == [2.0, 4.0, 0.0]
    assert after[0, 0, :3].tolist() == [3.0, 4.0, 0.0]


def conversation(tokenizer: Any, *contents: str) -> Tensor:
    turns = [{"role": ("user", "assistant")[at % 2], "content": content} for at, content in enumerate(contents)]
    return torch.tensor([tokenizer(tokenizer.apply_chat_template(turns, tokenize=False), add_special_tokens=False)["input_ids"]])


@pytest.mark.parametrize("span", list(EditedSpan))
def test_the_touched_tokens_are_the_servers(span: EditedSpan) -> None:
    model, tokenizer = policy()
    contents = ("first?", "one", " user\nlast", "answer")
    ids = conversation(tokenizer, *contents)
    turns = tuple(Message(("user", "assistant")[at % 2], text) for at, text in enumerate(contents[:3]))
    item = PromptedResponse(turns, contents[3])
    tree = whole_subject().tokenizer.response(item)
    assert ids[0, : tree.size].tolist() == tree.trunk.tolist()
    server = edited_positions(whole_subject().tokenizer, item, tree, ServerSpan(span.value), Truncation.REFUSE).tolist()
    labels = torch.full_like(ids, -100)
    start = tree.size - len(contents[3])
    labels[0, start : tree.size] = ids[0, start : tree.size]
    before = residuals(model, ids)
    with steering(model, artifact(STEER, span), tokenizer=tokenizer):
        after = residuals(model, ids, labels=labels)
    touched = (after != before).any(dim=-1)[0].nonzero().flatten().tolist()
    assert [at for at in touched if at < tree.size] == server
    assert 0 not in touched


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_and_the_first_token_of_each_row_are_left_alone(side: str) -> None:
    model = policy()[0]
    ids = some_ids(2, 6)
    mask = torch.ones_like(ids)
    mask[1, :2] = 0 if side == "left" else 1
    mask[1, 4:] = 1 if side == "left" else 0
    before = residuals(model, ids, attention_mask=mask)
    with steering(model, artifact(STEER)):
        after = residuals(model, ids, attention_mask=mask)
    touched = (after != before).any(dim=-1)
    assert touched[0].tolist() == [False, True, True, True, True, True]
    wanted = [False, False, False, True, True, True] if side == "left" else [False, True, True, True, False, False]
    assert touched[1].tolist() == wanted


def test_only_flagged_rows_are_edited_wherever_a_batch_has_them() -> None:
    model = policy()[0]
    ids = some_ids(3, 6)
    mask = torch.ones_like(ids)
    mask[2, 4:] = 0
    rows = Sequences([ids[2, :4].tolist(), ids[0].tolist()])
    before = residuals(model, ids, attention_mask=mask)
    with steering(model, artifact(STEER, side=ResponseSide.CHOSEN), rows=rows) as edit:
        after = residuals(model, ids, attention_mask=mask)
    assert (after != before).any(dim=-1).any(dim=-1).tolist() == [True, False, True]
    assert edit.tokens == 5 + 3


def test_generation_edits_what_it_writes_and_the_prompts_last_token() -> None:
    model, _ = policy()
    ids = some_ids(1, 5)
    with steering(model, artifact(STEER, EditedSpan.RESPONSE)) as edit:
        written = model.generate(ids, max_new_tokens=4, do_sample=False, attention_mask=torch.ones_like(ids), eos_token_id=None)
    assert written.shape[1] == 9
    assert edit.tokens == 4  # the prompt's last token, and each written one but the last, which nothing follows


@pytest.mark.parametrize("name", ["past_key_values", "cache"])
def test_a_cache_is_known_by_either_of_its_names(name: str) -> None:
    """transformers 5.24 calls it anew; an empty one is a prompt that an answer will follow."""
    model, _ = policy()
    with steering(model, artifact(STEER, EditedSpan.RESPONSE)) as edit:
        edit.inner(model.model, (), {"input_ids": some_ids(1, 5), name: DynamicCache(), "use_cache": True})
        assert edit._given is not None
        assert edit._given.cached == 0
        edit.inner(model.model, (), {"input_ids": some_ids(1, 5), "use_cache": True})
        assert edit._given.cached is None


@pytest.mark.parametrize("checkpointing", [None, False, True], ids=["stored", "recomputed", "reentrant"])
def test_gradients_flow_through_an_edit_and_are_those_of_the_formula(checkpointing: bool | None) -> None:
    """Against autograd through the formula in the model's own place, with and without blocks that are computed again."""
    kinds = (STEER, ABLATE)
    for kind in kinds:
        gradients: list[Tensor] = []
        for recompute in (False, True):
            model = policy()[0].double().train()
            if recompute and checkpointing is not None:
                model.gradient_checkpointing_enable({"use_reentrant": checkpointing})
                model.enable_input_require_grads()
            opened = (steering if kind is STEER else ablation)(model, artifact(kind))
            with opened:
                # Two passes before one backward: a block that is computed again must find its own pass's tokens.
                one = model(input_ids=some_ids(), use_cache=False).logits.square().mean()
                mask = torch.ones(2, 9, dtype=torch.long)
                mask[0, :4] = 0
                other = model(input_ids=some_ids(), attention_mask=mask, use_cache=False).logits[mask.bool()].square().mean()
                (one + other).backward()
            gradients.append(model.model.layers[0].mlp.down_proj.weight.grad.clone())
        assert gradients[0].abs().max() > 0
        torch.testing.assert_close(gradients[1], gradients[0], atol=1e-12, rtol=1e-10)


def test_ablated_directions_carry_no_gradient_past_the_edit() -> None:
    """With the full strength, what lies in the span of Q does not reach the loss, and so learns nothing."""
    model = policy()[0].double()
    h = torch.randn(1, 4, WIDTH, dtype=torch.float64, requires_grad=True)
    whole = AblationBasis(plain(BASIS), plain(MEAN), 1.0)
    with ablation(model, artifact(whole)) as edit:
        edit.inner(model, (torch.tensor([[5, 6, 7, 8]]),), {})
        edit.apply(torch.zeros(1), h).sum().backward()
    assert h.grad is not None
    inside = h.grad[0, 1:] @ torch.tensor(np.asarray(whole.basis.values()).reshape(WIDTH, 3))
    assert inside.abs().max() < 1e-6
    assert h.grad[0, 1:].abs().max() > 0.1


def test_hooks_are_removed_after_an_exception_too() -> None:
    model = policy()[0]
    before = residuals(model, some_ids())
    with pytest.raises(RuntimeError, match="in the middle"), steering(model, artifact(STEER)):  # noqa: PT012
        residuals(model, some_ids())
        raise RuntimeError("in the middle")
    assert torch.equal(residuals(model, some_ids()), before)
    hooked = [name for name, module in model.named_modules() if module._forward_hooks or module._forward_pre_hooks]
    assert hooked == []


def test_a_peft_policy_is_edited_and_its_reference_is_not() -> None:
    """TRL reads the reference from the same module, with adapters off or with an adapter "ref"."""
    config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(policy()[0], config)
    model.add_adapter("ref", config)
    before = residuals(model, some_ids())
    with steering(model, artifact(STEER)):
        edited = residuals(model, some_ids())
        with model.disable_adapter():
            without = residuals(model, some_ids())
        model.set_adapter("ref")
        reference = residuals(model, some_ids())
        model.set_adapter("default")
        again = residuals(model, some_ids())
    assert not torch.equal(edited, before)
    assert torch.equal(without, before)
    assert torch.equal(reference, before)
    assert torch.equal(again, edited)


def test_other_architectures_and_the_streams_input_can_be_edited() -> None:
    config = GPT2Config(vocab_size=300, n_embd=WIDTH, n_layer=2, n_head=2, n_positions=32)
    model = GPT2LMHeadModel(config).eval()
    ids = some_ids()
    before = model(ids).logits
    for hook in ("blocks.0.hook_resid_pre", "blocks.1.hook_resid_pre", "blocks.1.hook_resid_post"):
        with steering(model, artifact(STEER, hook=hook)) as edit:
            assert not torch.allclose(model(ids).logits, before)
        assert edit.tokens == 16
    assert torch.equal(model(ids).logits, before)


def test_what_cannot_be_done_is_refused_with_what_to_give(served: Served) -> None:
    model, tokenizer = policy()

    def reason(opened: Any) -> str:
        with pytest.raises(InvalidRequest) as refused, opened:
            pass
        return refused.value.reason

    assert reason(steering(model, artifact(STEER, EditedSpan.FINAL_TURN_ON))) == "TOKENIZER_REQUIRED"
    assert reason(steering(model, artifact(STEER, side=ResponseSide.CHOSEN))) == "ROWS_REQUIRED"
    assert reason(steering(model, artifact(ABLATE))) == "NO_SUCH_EDIT"
    assert reason(steering(model, artifact(SteeringVector(plain(np.ones(8)), 1.0, 1.0)))) == "MODEL_MISMATCH"
    assert reason(steering(model, artifact(STEER, hook="blocks.7.hook_resid_post"))) == "MODEL_MISMATCH"
    assert reason(steering(model, artifact(STEER, hook="layer 7"))) == "UNKNOWN_HOOK"
    with pytest.raises(InvalidRequest, match="labels"), steering(model, artifact(STEER, EditedSpan.RESPONSE)):
        model(some_ids())
    with (
        pytest.raises(InvalidRequest, match="user turn"),
        steering(model, artifact(STEER, EditedSpan.FINAL_TURN_ON), tokenizer=tokenizer),
    ):
        model(some_ids())
    shaping = served.client.intervention(served.plan(InterventionFamily.REWARD_SHAPING).interventions[0])
    assert reason(intervened(model, shaping)) == "NO_SUCH_EDIT"


def test_a_plans_hook_families_edit_as_their_artifacts_say(served: Served) -> None:
    model, _, sae = build_parts()
    plan = served.plans(
        Intervene(
            "feature/8",
            InterventionMode.AMPLIFY,
            2.0,
            InterventionFamily.STEERING_VECTOR,
            InterventionParameters(coefficient=3.0, span=EditedSpan.ALL, share=0.2),
        ),
        Intervene(
            "feature/8",
            InterventionMode.EXPLAIN_AWAY,
            1.0,
            InterventionFamily.ABLATION,
            InterventionParameters(span=EditedSpan.ALL),
        ),
        Intervene(
            "feature/8",
            InterventionMode.EXPLAIN_AWAY,
            1.0,
            InterventionFamily.SAE_CLAMP,
            InterventionParameters(span=EditedSpan.ALL),
        ),
    )
    vector, basis, clamped = (served.client.intervention(one) for one in plan.interventions)
    ids = some_ids(2, 60)
    before = residuals(model, ids)
    kind = vector.artifact.kind
    assert (kind.coefficient, kind.norm) == (-6.0, 6.0)  # amplifying trains against the concept
    with pytest.raises(InvalidRequest, match="flagged"), intervened(model, vector):
        pass
    with intervened(model, vector, rows=Sequences([ids[1].tolist()])):
        after = residuals(model, ids)
    wanted = steer(before[1, 1:].double().numpy(), kind.vector.values(), -6.0)
    np.testing.assert_allclose(after[1, 1:].numpy(), wanted, atol=1e-5)
    assert torch.equal(after[0], before[0])
    with intervened(model, basis):
        ablated = residuals(model, ids)
    q, mean = (np.asarray(one.values()).reshape(one.shape) for one in (basis.artifact.kind.basis, basis.artifact.kind.mean))
    np.testing.assert_allclose(ablated[:, 1:].numpy(), ablate(before[:, 1:].double().numpy(), q, mean), atol=1e-5)
    with pytest.raises(InvalidRequest, match="sae="), intervened(model, clamped):
        pass
    with intervened(model, clamped, sae=sae):
        held = residuals(model, ids)
    acts = sae.encode(before[:, 1:])[..., 8:9]
    assert acts.max() > 0
    np.testing.assert_allclose((held - before)[:, 1:].numpy(), (-acts * sae.W_dec[8]).numpy(), atol=1e-5)
    other = build_parts(seed=1)[2]
    with pytest.raises(InvalidRequest) as refused, intervened(model, clamped, sae=other):
        pass
    assert refused.value.reason == "SAE_MISMATCH"
    assert set(refused.value.details) == {"plan_sae_fingerprint", "sae_fingerprint"}
    assert sae.cfg.d_sae == FEATURES
    assert isinstance(clamped, CompiledIntervention)
    assert Path(clamped.name).name == "3"


@pytest.mark.parametrize("kind", ["chatml", "llama3", "gemma", "turns", "wordpiece"])
@pytest.mark.parametrize("last", ["What now?", "\n\nWhat now?", " \n user What?"])
def test_the_final_user_turn_is_found_in_every_kind_of_template(kind: str, last: str) -> None:
    """Against the server's own rule, which knows the characters of every token."""
    tokenizer = build_tokenizer(kind)
    reader = TreeTokenizer(tokenizer, context_tokens=2048)
    turns = (Message("user", "Hello."), Message("assistant", "Hi."), Message("user", last))
    item = PromptedResponse(turns, "Nothing.")
    tree = reader.response(item)
    server = edited_positions(reader, item, tree, ServerSpan.FINAL_TURN_ON, Truncation.REFUSE)
    ids = torch.from_numpy(tree.trunk.astype(np.int64))[None]
    where = Where(EditedSpan.FINAL_TURN_ON, None, tokenizer)
    labels = torch.full_like(ids, -100)
    labels[0, tree.spans[SpanName.CHOSEN]] = 1
    mask = where.mask(Given(ids, None, labels, None, None), torch.zeros(*ids.shape, 4))
    assert mask[0].nonzero().flatten().tolist() == server.tolist()
