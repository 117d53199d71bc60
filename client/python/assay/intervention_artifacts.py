"""What a trainer puts into its model: a vector, a basis with its mean, or clamped features. Plain tensors, no numpy, no torch.

one = client.intervention(plan.interventions[0])
one.artifact.kind.vector.values()                  the unit direction, d_in floats
with assay.hooks.intervened(model, one): ...       put into a Hugging Face model (needs assay[trl])
"""

from dataclasses import dataclass

from assay.interventions import EditedSpan, Intervention, ResponseSide
from assay.tensors import Tensor
from assay.v1 import intervention_pb2 as pb
from assay.v1 import intervention_service_pb2 as service
from assay.wire import from_wire


@dataclass(frozen=True, slots=True)
class SteeringVector:
    """h + coefficient v.

    Attributes:
        vector: v, a unit vector, float32 [d_in].
        coefficient: its sign included: explaining away adds the concept while training, amplifying subtracts it.
        norm: of what is added.
    """

    vector: Tensor
    coefficient: float
    norm: float


@dataclass(frozen=True, slots=True)
class AblationBasis:
    """h - strength Q Q^T (h - mean): Q orthonormal columns float32 [d_in, k], mean float32 [d_in], strength in [0, 1]."""

    basis: Tensor
    mean: Tensor
    strength: float


@dataclass(frozen=True, slots=True)
class SaeClamp:
    """h + sum over features of (value - a_f(h)) W_dec[f].

    Attributes:
        sae_id: the SAE whose encoder gives a_f.
        sae_fingerprint: its fingerprint.
        features: ids, ascending.
        values: what each is set to.
        decoder: their rows, float32 [features, d_in].
    """

    sae_id: str
    sae_fingerprint: str
    features: tuple[int, ...]
    values: tuple[float, ...]
    decoder: Tensor


@dataclass(frozen=True, slots=True)
class InterventionArtifact:
    """An edit of the residual stream.

    Attributes:
        kind: what is done there.
        hook: where, in SAELens's naming: "blocks.14.hook_resid_post".
        hook_module: the same in Hugging Face's: "model.layers.14:output".
        dtype: element type that the subject ran in.
        side: whose forward pass is changed.
        span: at which tokens.
    """

    kind: SteeringVector | AblationBasis | SaeClamp
    hook: str
    hook_module: str
    dtype: str
    side: ResponseSide
    span: EditedSpan

    @classmethod
    def from_proto(cls, message: pb.InterventionArtifact) -> "InterventionArtifact":
        """From the wire; ValueError where it is of a kind that this client does not know."""
        return cls(
            kind=_kind(message),
            hook=message.hook,
            hook_module=message.hook_module,
            dtype=message.dtype,
            side=from_wire(ResponseSide, pb.ResponseSide, "RESPONSE_SIDE", message.side) or ResponseSide.BOTH,
            span=from_wire(EditedSpan, pb.EditedSpan, "EDITED_SPAN", message.span) or EditedSpan.FINAL_TURN_ON,
        )


@dataclass(frozen=True, slots=True)
class CompiledIntervention:
    """One intervention of a plan, and what a trainer puts into its model; None for families that need nothing there."""

    intervention: Intervention
    artifact: InterventionArtifact | None

    @property
    def name(self) -> str:
        """Its resource name."""
        return self.intervention.name

    @classmethod
    def from_proto(cls, message: service.GetInterventionResponse) -> "CompiledIntervention":
        """From the wire."""
        artifact = InterventionArtifact.from_proto(message.artifact) if message.HasField("artifact") else None
        return cls(Intervention.from_proto(message.intervention), artifact)


def _kind(message: pb.InterventionArtifact) -> SteeringVector | AblationBasis | SaeClamp:
    match message.WhichOneof("kind"):
        case "steering":
            one = message.steering
            return SteeringVector(Tensor.from_proto(one.vector), one.coefficient, one.norm)
        case "ablation":
            basis = message.ablation
            return AblationBasis(Tensor.from_proto(basis.basis), Tensor.from_proto(basis.mean), basis.strength)
        case "clamp":
            clamp = message.clamp
            values = tuple(clamp.values)
            return SaeClamp(clamp.sae_id, clamp.sae_fingerprint, tuple(clamp.features), values, Tensor.from_proto(clamp.decoder))
        case _:
            raise ValueError(f"an intervention at {message.hook} is of a kind that this client does not know; update it")
