"""What is loaded: the subject, its SAE, the limits in force, and the features' labels."""

from dataclasses import dataclass, fields

from assay.v1 import concept_pb2, model_pb2

DEFAULT_MODEL = "models/default"


@dataclass(frozen=True, slots=True)
class Limits:
    """What the server accepts; the fields of ``assay.v1.Limits``, where each is described."""

    max_pairs_per_request: int
    max_pairs_per_message: int
    max_message_bytes: int
    max_text_bytes: int
    max_sequence_tokens: int
    max_top_k: int
    max_concepts: int
    max_concept_features: int
    max_tokens_in_flight: int
    max_streams: int
    batch_tokens: int
    max_features_per_request: int

    @classmethod
    def from_proto(cls, message: model_pb2.Limits) -> "Limits":
        """From the wire."""
        return cls(**{one.name: getattr(message, one.name) for one in fields(cls)})


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A causal language model read at one hook by one SAE; the fields of ``assay.v1.Model``, where each is described.

    `explained_variance` and `mean_l0` were measured by the server when it loaded, on `calibration_tokens` tokens.
    """

    name: str
    model_id: str
    model_fingerprint: str
    model_architecture: str
    tokenizer_fingerprint: str
    template_fingerprint: str
    hook: str
    hook_module: str
    blocks_run: int
    blocks_total: int
    d_in: int
    d_sae: int
    sae_architecture: str
    sae_id: str
    sae_fingerprint: str
    dtype: str
    device: str
    context_tokens: int
    explained_variance: float
    mean_l0: float
    calibration_tokens: int
    server_version: str
    labelled_features: int
    whole_model_fingerprint: str
    overrides: tuple[str, ...]
    limits: Limits

    @classmethod
    def from_proto(cls, message: model_pb2.Model) -> "ModelInfo":
        """From the wire."""
        plain = {one.name: getattr(message, one.name) for one in fields(cls) if one.name not in ("overrides", "limits")}
        return cls(**plain, overrides=tuple(message.overrides), limits=Limits.from_proto(message.limits))

    @property
    def has_chat_template(self) -> bool:
        """Whether the subject reads conversations, or raw text only."""
        return bool(self.template_fingerprint)

    @property
    def identity(self) -> dict[str, str]:
        """What decides the numbers: two servers with equal identities give equal results, whatever their names."""
        return {
            "model": self.model_fingerprint,
            "tokenizer": self.tokenizer_fingerprint,
            "template": self.template_fingerprint,
            "sae": self.sae_fingerprint,
            "hook": self.hook,
            "dtype": self.dtype,
        }


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature's label with its evidence; no test uses labels.

    Attributes:
        id: the feature's id in [0, d_sae).
        label: a few words; "" where no label is known.
        label_method: how the label was made.
        detection_score: how well the label predicts where the feature fires on unseen texts, 0.5 being chance and 1
            perfect; None where not measured.
        top_tokens: tokens on which it fires most strongly, most telling first.
        promoted_tokens: tokens that its decoder direction promotes, strongest first.
        firing_rate: share of tokens on which it fired where it was labelled; None where not measured.
        contexts: short contexts in which it fires, the firing token between « and ».
    """

    id: int
    label: str
    label_method: str
    detection_score: float | None
    top_tokens: tuple[str, ...]
    promoted_tokens: tuple[str, ...]
    firing_rate: float | None
    contexts: tuple[str, ...]

    @classmethod
    def from_proto(cls, message: concept_pb2.Feature) -> "Feature":
        """From the wire."""
        return cls(
            id=message.id,
            label=message.label,
            label_method=message.label_method,
            detection_score=message.detection_score if message.HasField("detection_score") else None,
            top_tokens=tuple(message.top_tokens),
            promoted_tokens=tuple(message.promoted_tokens),
            firing_rate=message.firing_rate if message.HasField("firing_rate") else None,
            contexts=tuple(message.contexts),
        )
