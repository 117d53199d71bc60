"""Do model and SAE belong together? Checkpoints mixed with the wrong model, hook or normalisation give plausible nonsense.

What is checked before it serves (METHOD.md §6), each by name so that an operator can override it deliberately:

    WIDTH         the SAE's d_in equals the model's width                     (cannot be overridden)
    HOOK          the hook is a residual-stream hook that the model has       (cannot be overridden)
    MODEL_NAME    the SAE's own model name agrees with the model loaded
    BOS           the SAE's training put a first token as this tokenizer can
    VARIANCE      explained variance on the calibration text clears the floor
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from assay_server.errors import SubjectMismatch
from assay_server.subject.calibration import VarianceMeter
from assay_server.subject.hooks import Hook
from assay_server.subject.loading import LoadedModel

OVERRIDABLE = ("MODEL_NAME", "BOS", "VARIANCE")


class Failures:
    """Checks that failed: raised at once, or noted where the operator overrides them."""

    def __init__(self, overrides: Sequence[str]) -> None:
        self._overrides = set(overrides)
        self.overridden: list[str] = []

    def add(self, check: str, message: str) -> None:
        """A check failed. Raises SubjectMismatch with its name, unless it is overridden."""
        if check not in self._overrides:
            raise SubjectMismatch(
                f"{message} If this is meant, start the server with --overrides {check}.",
                reason=check,
                details={"check": check},
            )
        self.overridden.append(message)


def check_overrides(overrides: Sequence[str]) -> None:
    """Refuse names that are no overridable check. Raises SubjectMismatch (UNKNOWN_OVERRIDE)."""
    if unknown := sorted(set(overrides) - set(OVERRIDABLE)):
        raise SubjectMismatch(
            f"No such check to override: {', '.join(unknown)}; there are {', '.join(OVERRIDABLE)}.", reason="UNKNOWN_OVERRIDE"
        )


def check_width(model: LoadedModel, sae: Any) -> None:
    """The SAE reads residuals of the model's width. Raises SubjectMismatch (WIDTH)."""
    if sae.cfg.d_in != model.width:
        raise SubjectMismatch(
            f"The SAE reads a residual of width {sae.cfg.d_in} and {model.architecture} has width {model.width}: "
            "this SAE was made for another model.",
            reason="WIDTH",
            details={"d_in": sae.cfg.d_in, "width": model.width},
        )


def check_model_name(model_id: str, sae: Any, failures: Failures) -> None:
    """The SAE's own model name, where it has one, is that of the model (MODEL_NAME)."""
    expected = str(sae.cfg.metadata.model_name or "")
    if expected and _plain(expected) != _plain(model_id):
        failures.add("MODEL_NAME", f"The SAE says it was trained on {expected!r} and the model loaded is {model_id!r}.")


def check_bos(model: LoadedModel, sae: Any, failures: Failures) -> bool:
    """Whether sequences begin with a beginning-of-sequence token, as in the SAE's training; fails where there is none (BOS)."""
    wants = bool(sae.cfg.metadata.prepend_bos)
    if wants and model.tokenizer.bos_token_id is None:
        failures.add("BOS", "The SAE was trained with a beginning-of-sequence token and this tokenizer has none.")
        return False
    return wants


def check_variance(meter: VarianceMeter, hook: Hook, floor: float, failures: Failures) -> None:
    """The SAE explains at least so much of the residual's variance on the calibration text (VARIANCE)."""
    if not meter.explained_variance >= floor:
        failures.add(
            "VARIANCE",
            f"The SAE explains {meter.explained_variance:.3f} of the residual's variance at {hook.name} on the calibration text "
            f"({meter.tokens} tokens); the floor is {floor:.3f}. Model, hook, normalisation or SAE do not fit together.",
        )


def _plain(name: str) -> str:
    """A model's name without organisation, case and punctuation: "HuggingFaceTB/SmolLM2-135M" and "smollm2_135m" agree."""
    return re.sub(r"[^a-z0-9]", "", Path(name).name.lower().removesuffix(".gguf"))
