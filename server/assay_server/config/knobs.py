"""Every knob of the server: its default, bounds and meaning. Nothing else declares one.

A knob is a field of ``ServerConfig``. Its name gives the flag (``--batch-tokens``), the environment variable
(``ASSAY_BATCH_TOKENS``) and the key of the TOML file (``batch_tokens = 2048``); its metadata gives help text, bounds and
the form of its value. docs/configuration.md is generated from here (``make docs-configuration``).

Invariants:
- A ``ServerConfig`` that exists is valid (``checks``).
- Secrets never show: not in ``repr``, not in help, not in an error.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from assay_server.config import checks

MIB = 1 << 20
# What a value is, as `assay serve --help` prints it; "" for a switch, which takes none.
Form: TypeAlias = Literal["PATH", "TEXT", "LIST", "N", "SECONDS", "BYTES", "URL", "HOST", ""]


def _knob(
    default: Any,
    form: Form,
    text: str,
    *,
    group: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[str] = (),
    secret: bool = False,
) -> Any:
    """A field; ``group`` is the heading of help and reference that starts with this knob."""
    metadata = {"form": form, "help": text, "group": group, "low": low, "high": high, "choices": tuple(choices)}
    return dataclasses.field(default=default, repr=not secret, metadata=metadata)


def _switch(text: str) -> Any:
    """A knob that is off unless it is set."""
    return _knob(False, "", text)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """How the server is set up. Immutable; the fields' metadata holds help, form, bounds and choices."""

    model: str = _knob("", "PATH", "Model to audit: a folder, a GGUF file, or a hub id. Required.", group="Model and SAE")
    sae: str = _knob("", "PATH", "SAE to read it with: a folder, or a release in SAELens's registry. Required.")
    sae_id: str = _knob("", "TEXT", "The SAE's id within its release.")
    hook: str = _knob("", "TEXT", "Hook, in SAELens's naming. Empty: the SAE's own.")
    dtype: str = _knob("auto", "TEXT", "Dtype of model and SAE.", choices=("auto", "float32", "bfloat16", "float16"))
    device: str = _knob("auto", "TEXT", 'Device: "auto", "cpu", "cuda" or "cuda:N".')
    labels: str = _knob("", "PATH", "Feature labels, .jsonl or .jsonl.gz. Empty: labels.jsonl(.gz) in the SAE's folder, if any.")
    overrides: tuple[str, ...] = _knob((), "LIST", "Load-time checks whose failure is accepted, by name, separated by commas.")
    allow_download: bool = _switch("Allow downloads of model and SAE from a hub.")
    whole_model: bool = _switch("Also load the blocks past the hook and the head, for offsets by steering and for inoculation.")
    variance_floor: float = _knob(
        0.5, "N", "Refuse to load an SAE that explains a smaller part of the residual's variance.", low=-1.0, high=1.0
    )

    host: str = _knob("127.0.0.1", "HOST", "Address to bind.", group="Listening")
    port: int = _knob(50151, "N", "gRPC port; 0 picks a free one.", low=0, high=65535)
    metrics_port: int = _knob(9151, "N", "HTTP port of /metrics and /healthz; 0: off, -1: a free one.", low=-1, high=65535)
    ready_file: str = _knob("", "PATH", "File to write ports and pid to, as JSON, once the server answers.")

    token: str = _knob(
        "", "TEXT", "Bearer token that calls must carry; prefer token_file or the environment.", group="Access", secret=True
    )
    token_file: str = _knob("", "PATH", "File that holds the token.")
    tls_cert: str = _knob("", "PATH", "PEM file with the server's certificate chain.")
    tls_key: str = _knob("", "PATH", "PEM file with the certificate's private key.")
    allow_insecure_public_bind: bool = _switch("Serve other machines without TLS or without a token.")

    redis_url: str = _knob(
        "", "URL", "Redis to share the cache through, redis://HOST:PORT/DB. Empty: in-process only.", group="Cache", secret=True
    )
    lru_bytes: int = _knob(256 * MIB, "BYTES", "Size of the in-process cache; 0: off.", low=0)

    data_dir: str = _knob(
        "",
        "PATH",
        "Folder or fsspec URL of datasets, audits, concepts and plans. Empty: a temporary folder.",
        group="Stored data",
    )
    import_roots: tuple[str, ...] = _knob(
        (), "LIST", "Folders of the server from which clients may import files, separated by commas."
    )
    shard_pairs: int = _knob(2048, "N", "Pairs per shard of a dataset: the most that a crash costs.", low=1, high=1 << 20)
    audits_at_once: int = _knob(1, "N", "Audits that run at the same time; the rest wait in order.", low=1, high=64)
    plans_at_once: int = _knob(1, "N", "Plans, curves and prompt rankings made at the same time.", low=1, high=64)
    held_plan_rows: int = _knob(8_000_000, "N", "Plan rows kept in memory, about 200 bytes each.", low=1, high=1 << 40)
    audits_reuse_cache: bool = _switch(
        "Let audits read pairs scored live from the cache: faster, but repeats may differ in their last bits."
    )
    upload_max_age_seconds: float = _knob(604_800.0, "SECONDS", "Age at which an upload is deleted.", low=60.0, high=1e9)
    operation_max_age_seconds: float = _knob(
        3_628_800.0,
        "SECONDS",
        "Age at which a finished operation is deleted at startup, with the prompt ranking that only it names; datasets, audits, "
        "comparisons, concepts and plans stay.",
        low=3600.0,
        high=1e9,
    )

    label_endpoint: str = _knob(
        "",
        "URL",
        "OpenAI-compatible endpoint that writes labels, https://HOST/v1. Empty: none.",
        group="Labels by a language model",
    )
    label_model: str = _knob("", "TEXT", "Model to request from the endpoint.")
    label_api_key: str = _knob("", "TEXT", "API key of the endpoint; prefer the environment.", secret=True)
    label_timeout_seconds: float = _knob(60.0, "SECONDS", "Timeout per request to the endpoint.", low=0.1, high=3600.0)
    label_concurrency: int = _knob(4, "N", "Requests to the endpoint at the same time.", low=1, high=256)

    batch_tokens: int = _knob(
        0, "N", "Tokens per batch; 0: 1,024 (float32) or 2,048 on CPU, 16,384 on GPU.", group="Engine", low=0, high=1 << 24
    )
    window: int = _knob(512, "N", "Waiting items that are sorted by length to form a batch.", low=1, high=1 << 20)
    ageing_seconds: float = _knob(
        2.0, "SECONDS", "Wait after which an item is batched whatever its length.", low=0.0, high=3600.0
    )
    threads: int = _knob(0, "N", "CPU threads of the model; 0: torch's choice.", low=0, high=4096)

    max_pairs_per_request: int = _knob(
        256, "N", "Pairs or responses per unary scoring request.", group="Limits", low=1, high=1 << 16
    )
    max_pairs_per_message: int = _knob(256, "N", "Pairs per message of a scoring stream.", low=1, high=1 << 16)
    max_message_bytes: int = _knob(32 * MIB, "BYTES", "Size of a request message.", low=1024, high=1 << 30)
    max_text_bytes: int = _knob(1 * MIB, "BYTES", "UTF-8 size of all texts of a pair together.", low=1, high=1 << 30)
    max_sequence_tokens: int = _knob(0, "N", "Tokens per sequence; 0: the model's context.", low=0, high=1 << 24)
    max_top_k: int = _knob(1024, "N", "Features per ranking.", low=1, high=1 << 20)
    max_concepts: int = _knob(256, "N", "Concepts per request.", low=1, high=1 << 16)
    max_concept_features: int = _knob(4096, "N", "Features per weighted concept.", low=1, high=1 << 20)
    max_tokens_in_flight: int = _knob(1_048_576, "N", "Tokens that wait or run at the same time.", low=1, high=1 << 40)
    max_streams: int = _knob(64, "N", "Open streams, uploads and exports.", low=1, high=1 << 16)
    max_concurrent_streams: int = _knob(100, "N", "Open calls per connection; more wait in the client.", low=1, high=1 << 16)
    max_features_per_request: int = _knob(1024, "N", "Features per request for features or tokens.", low=1, high=1 << 20)
    max_dataset_pairs: int = _knob(5_000_000, "N", "Pairs per dataset, uploaded or imported.", low=1, high=1 << 40)
    max_plan_interventions: int = _knob(64, "N", "Interventions per plan.", low=1, high=64)
    max_plan_scores: int = _knob(50_000_000, "N", "A plan's interventions times its dataset's pairs.", low=1, high=1 << 40)
    max_ranking_rows: int = _knob(1024, "N", "Pairs that inoculation prompts are ranked on.", low=1, high=1024)
    max_upload_bytes: int = _knob(64 << 30, "BYTES", "Size of an upload, over all its calls.", low=1024, high=1 << 50)

    stream_batches: int = _knob(
        16, "N", "Batches per stream that are read ahead of its answers.", group="Streams", low=1, high=4096
    )
    stream_bytes: int = _knob(
        8 * MIB, "BYTES", "Request bytes per stream that are read ahead of its answers.", low=1024, high=1 << 32
    )
    stream_patience_seconds: float = _knob(
        30.0, "SECONDS", "How long an overloaded server retries a batch of an interactive stream.", low=0.0, high=3600.0
    )

    keepalive_seconds: float = _knob(
        60.0, "SECONDS", "Silence after which a connection is probed.", group="Connections and shutdown", low=1.0, high=7200.0
    )
    max_connection_age_seconds: float = _knob(3600.0, "SECONDS", "Age at which a client must reconnect.", low=1.0, high=864_000.0)
    max_connection_age_grace_seconds: float = _knob(
        600.0, "SECONDS", "Time that open calls then have to finish.", low=1.0, high=864_000.0
    )
    drain_seconds: float = _knob(30.0, "SECONDS", "Time that accepted work has to finish on shutdown.", low=0.0, high=3600.0)

    log_format: str = _knob("text", "TEXT", "Format of the logs on stderr.", group="Logs", choices=("text", "json"))
    log_level: str = _knob("info", "TEXT", "Lowest level that is logged.", choices=("debug", "info", "warning", "error"))

    def __post_init__(self) -> None:
        for knob in dataclasses.fields(self):
            checks.check_bounds(knob.name, getattr(self, knob.name), knob.metadata)
        files = {name: getattr(self, name) for name in ("token_file", "tls_cert", "tls_key", "labels")}
        checks.check_paths(files, self.import_roots)
        checks.check_tls(self.tls_cert, self.tls_key)
        checks.check_token(self.token, self.token_file, self.bearer_token)
        checks.check_redis(self.redis_url)
        checks.check_label_endpoint(self.label_endpoint, self.label_model, self.label_api_key)
        if not self.allow_insecure_public_bind:
            checks.check_exposure(self.host, self.tls_cert, self.bearer_token)

    @property
    def bearer_token(self) -> str:
        """The token that calls must carry, from ``token`` or ``token_file``; "" if none is required."""
        return self.token or (Path(self.token_file).read_text(encoding="utf-8").strip() if self.token_file else "")

    @property
    def is_public(self) -> bool:
        """Whether other machines can reach the bound address."""
        return checks.is_public(self.host)
