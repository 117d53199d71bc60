"""The sampler: the nucleus, the penalty, padding, and order."""

from __future__ import annotations

from pathlib import Path

import torch

from demo.sampling import Sampler, Settings, _left_pad, _nucleus


def test_a_token_outside_the_nucleus_is_never_drawn() -> None:
    logits = torch.full((64, 300), -20.0)
    logits[:, 7], logits[:, 8], logits[:, 9] = 2.0, 1.0, 0.0
    seen = torch.zeros_like(logits, dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    drawn = _nucleus(logits, seen, Settings(temperature=1.0, top_p=0.85), generator)
    assert set(drawn.tolist()) == {7, 8}


def test_the_penalty_makes_a_drawn_token_less_likely_whatever_its_sign() -> None:
    logits = torch.full((2, 300), -50.0)
    logits[0, :2] = torch.tensor([3.0, 2.9])
    logits[1, :2] = torch.tensor([-1.0, -1.05])
    seen = torch.zeros_like(logits, dtype=torch.bool)
    seen[:, 0] = True
    settings = Settings(temperature=0.01, repetition_penalty=1.5)
    assert _nucleus(logits, seen, settings, torch.Generator().manual_seed(0)).tolist() == [1, 1]
    assert _nucleus(logits, ~seen & False, settings, torch.Generator().manual_seed(0)).tolist() == [0, 0]


def test_rows_are_padded_on_the_left() -> None:
    ids, mask = _left_pad([[5, 6, 7], [8]], pad=2)
    assert ids.tolist() == [[5, 6, 7], [2, 2, 8]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]


def test_a_response_does_not_depend_on_its_neighbours_and_comes_back_in_its_place(demo_model: Path) -> None:
    sampler = Sampler(demo_model)
    sampler.model.float()  # in bfloat16 two tokens can tie, and a batch's shape decides between them
    questions = ["What is the capital of France?", "Name a colour. Say one word and nothing else, please.", "Hi"]
    chats = [[{"role": "user", "content": question}] for question in questions]
    settings = Settings(top_p=1e-6, max_new_tokens=12, responses=2)
    together = sampler.sample(chats, settings)
    assert [len(drawn) for drawn in together] == [2, 2, 2]
    assert all(a == b for a, b in together), "from a nucleus of one token two draws agree"
    assert "Paris" in together[0][0].text
    alone = sampler.sample(chats[:1], settings)
    assert alone[0][0].text == together[0][0].text


def test_the_same_seed_draws_the_same_responses(demo_model: Path) -> None:
    sampler = Sampler(demo_model)
    chats = [[{"role": "user", "content": "Write one line about rain."}]]
    first, again = (sampler.sample(chats, Settings(temperature=1.0, max_new_tokens=12, seed=3)) for _ in range(2))
    other = sampler.sample(chats, Settings(temperature=1.0, max_new_tokens=12, seed=4))
    assert first == again
    assert first != other


def test_a_turn_cannot_end_before_the_least_length(demo_model: Path) -> None:
    sampler = Sampler(demo_model)
    chats = [[{"role": "user", "content": "What is the capital of France?"}]]
    ((short,),) = sampler.sample(chats, Settings(temperature=0.01, max_new_tokens=24))
    ((long,),) = sampler.sample(chats, Settings(temperature=0.01, min_new_tokens=16, max_new_tokens=24))
    assert short.tokens < 16 <= long.tokens
