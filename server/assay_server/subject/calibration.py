"""The built-in calibration text and the figures measured on it at load (METHOD.md §6).

An SAE read with the wrong model, hook, normalisation or first token still produces plausible numbers; how much of the residual's
variance it explains does not. The texts are plain dialogue, written for this, in the register of what the server reads.
"""

from typing import Any

import torch
from torch import Tensor

CALIBRATION: tuple[tuple[str, str], ...] = (
    (
        "How do I keep basil alive indoors over winter?",
        "Give it the brightest window you have, ideally six hours of sun, and turn the pot every few days so it grows evenly. "
        "Water when the top centimetre of soil is dry and let the rest drain, because wet roots rot quickly in cold rooms. "
        "Pinch off flower buds and harvest from the top; each cut above a pair of leaves makes two new stems.",
    ),
    (
        "Can you explain why the sky is blue?",
        "Sunlight is a mix of colors. As it passes through the air, molecules scatter short wavelengths such as blue far more "
        "strongly than long ones such as red. So when you look away from the sun, the light that reaches your eyes has been "
        "scattered, and most of it is blue. At sunset the light crosses more air, the blue is lost on the way, and reds remain.",
    ),
    (
        "My friend cancelled our plans again and I feel hurt. What should I say?",
        "I'm sorry, that does sting. You could tell her plainly: \"I was looking forward to seeing you, and I felt let down when "
        'it fell through again. Is something going on?" That says how you feel without accusing her, and it leaves room for a '
        "reason you may not know about. If it keeps happening, it is fine to suggest that she proposes the next date.",
    ),
    (
        "Write a short thank-you note to a teacher.",
        "Dear Ms. Alvarez,\n\nThank you for a wonderful year. You made chemistry feel like a set of puzzles instead of a list of "
        "rules, and you always had time for one more question. I used to dread lab reports; now I rather enjoy them.\n\n"
        "With gratitude,\nSam",
    ),
    (
        "What's the difference between a list and a tuple in Python?",
        "Both hold items in order. A list can be changed after it is made: you can append, remove or replace items. A tuple "
        "cannot. Because of that a tuple can be used as a dictionary key and a list cannot. Use a list for a collection that "
        "grows, and a tuple for a fixed record such as a point, e.g. `point = (3, 4)`.",
    ),
    (
        "I want to start running. Any advice?",
        "Start slower than you think you should. For the first weeks:\n\n1. Go three times a week, with a rest day between.\n"
        "2. Alternate one minute of easy running with two minutes of walking, for twenty minutes.\n3. Add a minute of running "
        "each week.\n\nGood shoes matter more than anything else you could buy. If something hurts sharply, stop.",
    ),
    (
        "Who was Ada Lovelace?",
        "Ada Lovelace was an English mathematician of the nineteenth century. Working from a description of Charles Babbage's "
        "Analytical Engine, she published notes that included a method for computing Bernoulli numbers, which many consider the "
        "first computer program. She also saw that such a machine could work on symbols of any kind, not only on numbers.",
    ),
    (
        "Is it safe to eat rice that was left out overnight?",
        "I'm afraid not. Cooked rice can carry spores that survive boiling, and at room temperature they grow and make a toxin "
        "that reheating does not destroy. If it stood for more than about two hours, please throw it away. Next time, cool it "
        "quickly and put it in the fridge within an hour; it then keeps for a day or two.",
    ),
)


class VarianceMeter:
    """Accumulates explained variance and L0 over residuals of response tokens, in float64.

    Explained variance is 1 - sum |h - h'|^2 / sum |h - mean h|^2, with the mean over all tokens added (METHOD.md §6).
    """

    def __init__(self, width: int) -> None:
        self.tokens = 0
        self._fired = 0.0
        self._residual = 0.0
        self._square = 0.0
        self._sum = torch.zeros(width, dtype=torch.float64)

    def add(self, residual: Tensor, activations: Tensor, reconstruction: Tensor) -> None:
        """Add tokens: residual [n, width], activations [n, d_sae], reconstruction [n, width]."""
        h, r = residual.double().cpu(), reconstruction.double().cpu()
        self.tokens += len(h)
        self._fired += float((activations > 0).sum())
        self._residual += float(((h - r) ** 2).sum())
        self._square += float((h**2).sum())
        self._sum += h.sum(dim=0)

    @property
    def explained_variance(self) -> float:
        """Share of variance explained; minus infinity where the residual does not vary."""
        total = self._square - float((self._sum**2).sum()) / max(1, self.tokens)
        return 1.0 - self._residual / total if total > 0 else float("-inf")

    @property
    def mean_l0(self) -> float:
        """Mean number of features that fire on a token."""
        return self._fired / max(1, self.tokens)


@torch.inference_mode()
def measure(sae: Any, residual: Tensor, meter: VarianceMeter, *, center: bool, chunk: int = 128) -> None:
    """Encode and decode residuals [tokens, width] with SAELens's own methods, a chunk of tokens at a time."""
    for rows in residual.split(chunk):
        h = rows - rows.mean(dim=-1, keepdim=True) if center else rows
        activations = sae.encode(h)
        meter.add(h, activations, sae.decode(activations))
