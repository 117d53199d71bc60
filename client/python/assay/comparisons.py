"""Whether training did what its data predicted: observed shifts of concepts beside the predicted ones.

    found = client.compare_rollouts(dataset, rollouts, noise, margins=margins).wait()
    print("\\n".join(found.conclusions))              first what speaks against the figures
    found.retained.pearson_squared                   None where it is not defined
    found.save_plot("comparison.svg")

`rollouts` are pairs (prompt, chosen: a response after training, rejected: one before), `noise` two independent responses of the
model before training on the same prompts, and `margins` the trained policy's implicit rewards on preference pairs. Without noise
no shift can be interpreted, and without margins it is unknown whether the policy moved.

Invariant: a result holds plain values and tuples, never a protobuf message; a figure that is not defined is None, never a NaN.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from assay.audits import ConceptFamily, SubjectRef
from assay.files import replacing
from assay.hypotheses import ConceptRef
from assay.names import fresh_id, resource
from assay.times import utc
from assay.v1 import audit_pb2, comparison_pb2
from assay.v1 import audit_service_pb2 as service
from assay.wire import to_wire


@dataclass(frozen=True, slots=True)
class ComparisonOptions:
    """Knobs of a comparison; None, 0 or an empty sequence leaves one to the server, and the result says what was used.

    Attributes:
        concepts: stored concepts ("concepts/...") that are compared beside features and clusters.
        families: features, clusters, or both (the default, clusters where there are any).
        tau: share of a span's tokens above which a feature counts as expressed (0.01).
        interval_level: share that intervals cover (0.95).
        min_telling: pairs of the training data in which a concept must tell the sides apart to be retained (25).
        draws: bootstrap draws over prompts, 100 to 10,000 (1000).
        seed: of the draws (0).
        keep: concepts that are answered (500, at most 5000); figures are over all.
    """

    concepts: Sequence[str] = ()
    families: Sequence[ConceptFamily] = ()
    tau: float | None = None
    interval_level: float | None = None
    min_telling: int | None = None
    draws: int | None = None
    seed: int = 0
    keep: int | None = None


DEFAULT_COMPARISON = ComparisonOptions()


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval at `RolloutComparison.interval_level`."""

    value: float
    low: float
    high: float

    @classmethod
    def from_proto(cls, message: comparison_pb2.Estimate) -> "Estimate":
        """From the wire."""
        return cls(message.value, message.low, message.high)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How observed shifts agree with predicted ones, over concepts; intervals are percentiles of a bootstrap over prompts.

    Attributes:
        concepts: how many.
        pearson_squared: None under 3 concepts, or where either side does not vary.
        r_squared: of observed = predicted, without a fit; may be negative.
        fitted_r_squared: of the least-squares line of observed on predicted through 0.
        slope: of that line: shift that is observed for each unit predicted.
        spearman: rank correlation.
        same_sign: share of concepts whose shift has the predicted sign, among those where both are not 0.
        with_gap: R² of the least-squares plane of observed on predicted and `ConceptShift.gap`. None for the noise floor, without
            a gap, and under 4 concepts.
        gap_slope: the gap's coefficient in that plane.
    """

    concepts: int
    pearson_squared: Estimate | None
    r_squared: Estimate | None
    fitted_r_squared: Estimate | None
    slope: Estimate | None
    spearman: Estimate | None
    same_sign: Estimate | None
    with_gap: Estimate | None = None
    gap_slope: Estimate | None = None

    @classmethod
    def from_proto(cls, message: comparison_pb2.Agreement) -> "Agreement":
        """From the wire."""
        names = [field.name for field in fields(cls) if field.name != "concepts"]
        figures: dict[str, Any] = {
            name: Estimate.from_proto(getattr(message, name)) if message.HasField(name) else None for name in names
        }
        return cls(message.concepts, **figures)


@dataclass(frozen=True, slots=True)
class PositiveControl:
    """Whether the policy moved, which is what makes the rest mean something.

    Attributes:
        pairs: how many.
        of: what they are, as sent.
        margin: mean implicit-reward margin; 0 before training.
        accuracy: share of pairs with a margin over 0, ties half; one half before training.
        passed: both intervals lie above what no training gives.
    """

    pairs: int
    of: str
    margin: Estimate
    accuracy: Estimate
    passed: bool

    @classmethod
    def from_proto(cls, message: comparison_pb2.PositiveControl) -> "PositiveControl":
        """From the wire."""
        margin, accuracy = Estimate.from_proto(message.margin), Estimate.from_proto(message.accuracy)
        return cls(message.pairs, message.of, margin, accuracy, message.passed)


@dataclass(frozen=True, slots=True)
class ConceptShift:
    """One concept's predicted and observed shift.

    Attributes:
        concept: which.
        predicted: mean u over the training data, weighed by the plan where there is one.
        predicted_error: its standard error, clustered by prompt.
        observed: mean u of rollouts after over rollouts before.
        noise: mean u of the noise rollouts.
        noise_error: its standard error.
        retained: whether enough pairs of the training data tell the sides apart on it.
        clears_noise: whether its observed shift is over the noise floor.
        gap: how much more often it fires in the training data's responses, chosen and rejected alike, than in what the model
            wrote before; None for a direction.
    """

    concept: ConceptRef
    predicted: float
    predicted_error: float
    observed: Estimate
    noise: float
    noise_error: float
    retained: bool
    clears_noise: bool
    gap: float | None = None

    @classmethod
    def from_proto(cls, message: comparison_pb2.ConceptShift) -> "ConceptShift":
        """From the wire."""
        return cls(
            ConceptRef.from_proto(message.concept),
            message.predicted,
            message.predicted_error,
            Estimate.from_proto(message.observed),
            message.noise,
            message.noise_error,
            message.retained,
            message.clears_noise,
            message.gap if message.HasField("gap") else None,
        )


@dataclass(frozen=True, slots=True)
class RolloutComparison:
    """Observed shifts of concepts beside the predicted ones; the fields of ``assay.v1.RolloutComparison``, described there.

    `control` is None where no margins were sent. Out of `Client.operations`, `shifts` and `plot_svg` are left out.
    """

    dataset: str
    rollouts: str
    noise: str
    plan: str
    subject: SubjectRef
    create_time: datetime | None
    dataset_pairs: int
    rollout_pairs: int
    prompts: int
    noise_pairs: int
    retained: Agreement
    above_noise: Agreement
    noise_floor: Agreement
    control: PositiveControl | None
    conclusions: tuple[str, ...]
    shifts: tuple[ConceptShift, ...]
    total_shifts: int
    plot_svg: str
    seed: int
    draws: int
    tau: float
    interval_level: float
    min_telling: int

    def save_plot(self, path: str | Path) -> Path:
        """Writes the picture, predicted against observed shifts, whole or not at all: an SVG file that needs nothing else."""
        path = Path(path)
        with replacing(path) as temporary:
            temporary.write_text(self.plot_svg, encoding="utf-8")
        return path

    @classmethod
    def from_proto(cls, message: comparison_pb2.RolloutComparison) -> "RolloutComparison":
        """From the wire."""
        read: dict[str, Any] = {
            "subject": SubjectRef.from_proto(message.subject),
            "create_time": utc(message, "create_time"),
            "control": PositiveControl.from_proto(message.control) if message.HasField("control") else None,
            "conclusions": tuple(message.conclusions),
            "shifts": tuple(map(ConceptShift.from_proto, message.shifts)),
            **{name: Agreement.from_proto(getattr(message, name)) for name in ("retained", "above_noise", "noise_floor")},
        }
        plain = {field.name: getattr(message, field.name) for field in fields(cls) if field.name not in read}
        return cls(**plain, **read)


def comparison_request(
    dataset: str,
    rollouts: str,
    noise: str,
    *,
    plan: str,
    margins: Iterable[float] | None,
    margins_of: str,
    options: ComparisonOptions,
    request_id: str | None,
) -> service.CompareRolloutsRequest:
    """A comparison to make; ValueError where a number does not fit its field."""
    numbers: dict[str, Any] = {
        name: getattr(options, name) for name in ("tau", "interval_level", "min_telling", "draws", "seed", "keep")
    }
    return service.CompareRolloutsRequest(
        dataset=resource(dataset, "datasets"),
        rollouts=resource(rollouts, "datasets"),
        noise=resource(noise, "datasets"),
        plan=resource(plan, "plans") if plan else "",
        concepts=options.concepts,
        families=[to_wire(audit_pb2.ConceptFamily, "CONCEPT_FAMILY", one) for one in options.families],
        margins=None if margins is None else comparison_pb2.PolicyMargins(margins=margins, of=margins_of),
        request_id=request_id or fresh_id(),
        **numbers,
    )
