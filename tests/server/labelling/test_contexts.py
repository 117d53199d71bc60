"""Contexts stay within their text and are what they say: firing, or silent all along."""

import numpy as np
from assay_server.labelling.contexts import Context, firing_contexts, marked_contexts, silent_contexts

from tests.support.firings import on, sentences, texts_with

WORDS = [*"abcdefghijklmnopqrstuvwxyz", "hit"]


def test_runs_of_firing_tokens_are_marked_together() -> None:
    assert Context((" a", " b", " c", " d"), (0, 1, 2, 0)).marked == " a« b c» d"
    assert Context((" a", " b"), (1, 0)).marked == "« a» b"
    assert Context((" a",), (1,)).marked == "« a»"
    assert not Context((" a",), (0,)).fires


def test_the_strongest_firings_are_shown_one_a_text() -> None:
    firings = texts_with([lambda words, at: float(words[at] == " hit") * (1 + at)], ["hit x hit", "hit", "x y"])
    assert marked_contexts(firings, firings.firing(0), limit=3) == (" hit x« hit»", "« hit»")


def test_spread_contexts_reach_from_the_strongest_text_to_the_weakest() -> None:
    texts = [f"hit w{i}" for i in range(50)]
    firings = texts_with([lambda words, at: float(words[at] == " hit") * (1 + int(words[1][2:]))], texts)
    spread = firing_contexts(firings, firings.firing(0), limit=5, spread=True)
    strongest = firing_contexts(firings, firings.firing(0), limit=5, spread=False)
    assert [max(context.activations) for context in strongest] == [50, 49, 48, 47, 46]
    assert [max(context.activations) for context in spread] == [50, 38, 26, 13, 1]


def test_windows_hold_their_width_wherever_the_firing_stands() -> None:
    long = " ".join(["x"] * 100)
    firings = texts_with([on("hit")], [f"hit {long}", f"{long} hit", f"{long} hit {long}", "x hit"])
    contexts = firing_contexts(firings, firings.firing(0), limit=9, spread=False, width=32)
    assert sorted(len(context.words) for context in contexts) == [2, 32, 32, 32]
    assert all(context.fires for context in contexts)


def test_silent_contexts_hold_no_firing_and_are_the_same_for_the_same_seed() -> None:
    firings = texts_with([on("hit")], sentences(200, seed=0, vocabulary=WORDS, length=40))
    drawn = [
        silent_contexts(firings, firings.firing(0), limit=20, generator=np.random.default_rng(3), width=16) for _ in range(2)
    ]
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 20
    assert not any(context.fires or " hit" in context.words for context in drawn[0])
