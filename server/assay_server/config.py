"""Every knob of the server, its default, and where its value came from: flag over environment over file over default.

A knob is one field of ``ServerConfig``. Its name gives the flag (``--batch-tokens``), the environment variable
(``ASSAY_BATCH_TOKENS``) and the key of the TOML file (``batch_tokens = 2048``); its metadata gives the help text.
There is no other place where a knob is declared.

Invariants:
- A ``ServerConfig`` that exists is valid; ``ConfigError`` names the knob, the value and the fix.
- Secrets never show: not in ``repr``, not in help, not in an error.
- A server that other machines can reach speaks TLS and asks for a token, or ``allow_insecure_public_bind`` says that
  it is meant.
"""

import argparse
import dataclasses
import ipaddress
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args, get_type_hints
from urllib.parse import urlsplit

from assay_server.errors import AssayError

MIB = 1 << 20


class ConfigError(AssayError):
    """A knob's value cannot be used; the message names it, its value and the fix."""

    default_reason = "INVALID_CONFIG"


def _knob(
    default: Any,
    text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[str] = (),
    secret: bool = False,
) -> Any:
    metadata = {"help": text, "low": low, "high": high, "choices": tuple(choices)}
    return dataclasses.field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """How the server is set up. Immutable; the fields' metadata holds help, bounds and choices."""

    # What is loaded
    model: str = _knob("", "Model to audit: a folder, a GGUF file, or a hub id. Required to serve.")
    sae: str = _knob("", "SAE to read it with: a folder, or a release of SAELens's registry. Required to serve.")
    sae_id: str = _knob("", "The SAE's id within its release.")
    hook: str = _knob("", "Hook in SAELens's naming, where it is not the SAE's own.")
    dtype: str = _knob("auto", "Element type.", choices=("auto", "float32", "bfloat16", "float16"))
    device: str = _knob("auto", 'Device: "auto", "cpu", "cuda" or "cuda:N".')
    labels: str = _knob("", "Feature labels: a .jsonl or .jsonl.gz file. Empty: labels.jsonl(.gz) in the SAE's folder, if any.")
    overrides: tuple[str, ...] = _knob((), "Names of load-time checks whose failure is accepted, separated by commas.")
    allow_download: bool = _knob(False, "Whether model and SAE may be fetched from a hub.")
    whole_model: bool = _knob(
        False, "Keep the blocks past the hook and the head as well: what offsets by steering and inoculation need."
    )
    variance_floor: float = _knob(0.5, "Explained variance below which loading is refused.", low=-1.0, high=1.0)

    # Where it listens
    host: str = _knob("127.0.0.1", "Address to bind.")
    port: int = _knob(50151, "gRPC port; 0 picks a free one.", low=0, high=65535)
    metrics_port: int = _knob(9151, "HTTP port of /metrics and /healthz; 0 is off, -1 picks a free one.", low=-1, high=65535)
    ready_file: str = _knob("", "File that receives ports and pid as JSON once the server answers.")

    # Who may call
    token: str = _knob("", "Bearer token that calls must carry; prefer token_file or the environment.", secret=True)
    token_file: str = _knob("", "File that holds the token.")
    tls_cert: str = _knob("", "PEM file with the server's certificate chain.")
    tls_key: str = _knob("", "PEM file with its private key.")
    allow_insecure_public_bind: bool = _knob(False, "Serve other machines without TLS and a token all the same.")

    # Cache
    redis_url: str = _knob("", "Redis to share results through, redis://HOST:PORT/DB. Empty: in this process only.", secret=True)
    lru_bytes: int = _knob(256 * MIB, "Bytes of the in-process cache; 0 is off.", low=0)

    # What is kept
    data_dir: str = _knob(
        "",
        "Where datasets, concepts and audits are kept: a folder or an fsspec URL. Empty: a temporary folder.",
    )
    import_roots: tuple[str, ...] = _knob((), "Folders that ImportPairs may read files from, separated by commas.")
    shard_pairs: int = _knob(2048, "Pairs of one shard of a dataset, and what a crash costs at most.", low=1, high=1 << 20)
    audits_at_once: int = _knob(1, "Audits that run at the same time; others wait in order.", low=1, high=64)
    plans_at_once: int = _knob(1, "Plans, curves and rankings of prompts that are made at the same time.", low=1, high=64)
    held_plan_rows: int = _knob(8_000_000, "Rows of plans that are kept in memory, some 200 bytes each.", low=1, high=1 << 40)
    audits_reuse_cache: bool = _knob(
        False, "Take pairs that were scored live from the cache: faster, and no longer the same to the last bit each time."
    )
    upload_max_age_seconds: float = _knob(604_800.0, "Age at which an upload is forgotten.", low=60.0, high=1e9)
    operation_max_age_seconds: float = _knob(
        3_628_800.0,
        "Age at which an operation that is done is forgotten when the server starts, with the ranking of prompts that only it "
        "names; datasets, audits, comparisons, concepts and plans stay.",
        low=3600.0,
        high=1e9,
    )

    # Labels through a language model
    label_endpoint: str = _knob("", "OpenAI-compatible endpoint that labels are asked of, https://HOST/v1. Empty: none is asked.")
    label_model: str = _knob("", "Its model.")
    label_api_key: str = _knob("", "Its key; prefer the environment.", secret=True)
    label_timeout_seconds: float = _knob(60.0, "Time that one of its answers may take.", low=0.1, high=3600.0)
    label_concurrency: int = _knob(4, "Questions to it at once.", low=1, high=256)

    # Engine
    batch_tokens: int = _knob(
        0, "Token budget of one device batch; 0 is 1,024 (float32) or 2,048 on CPU and 16,384 on GPU.", low=0, high=1 << 24
    )
    window: int = _knob(512, "Waiting items that are sorted by length for a batch.", low=1, high=1 << 20)
    ageing_seconds: float = _knob(2.0, "Wait after which an item is taken whatever its length.", low=0.0, high=3600.0)
    threads: int = _knob(0, "CPU threads of the model; 0 leaves the choice to torch.", low=0, high=4096)

    # Limits (assay.v1.Limits)
    max_pairs_per_request: int = _knob(
        256, "Pairs in one ScorePairs, responses in one ScoreResponses or ScoreRewards.", low=1, high=1 << 16
    )
    max_pairs_per_message: int = _knob(256, "Pairs in one message of StreamPairs.", low=1, high=1 << 16)
    max_message_bytes: int = _knob(32 * MIB, "Bytes of one request message.", low=1024, high=1 << 30)
    max_text_bytes: int = _knob(1 * MIB, "UTF-8 bytes of one pair's texts together.", low=1, high=1 << 30)
    max_sequence_tokens: int = _knob(0, "Tokens of one sequence; 0 is the model's context.", low=0, high=1 << 24)
    max_top_k: int = _knob(1024, "Features in one ranking.", low=1, high=1 << 20)
    max_concepts: int = _knob(256, "Concepts in one request.", low=1, high=1 << 16)
    max_concept_features: int = _knob(4096, "Features in one weighted concept.", low=1, high=1 << 20)
    max_tokens_in_flight: int = _knob(1_048_576, "Tokens that may wait or run at once.", low=1, high=1 << 40)
    max_streams: int = _knob(64, "Streams, uploads and exports open at once.", low=1, high=1 << 16)
    max_concurrent_streams: int = _knob(
        100, "Calls open at once on one connection; further ones wait in the client.", low=1, high=1 << 16
    )
    max_features_per_request: int = _knob(1024, "Features in one EncodeTokens or BatchGetFeatures.", low=1, high=1 << 20)

    max_dataset_pairs: int = _knob(5_000_000, "Pairs in one dataset, uploaded or imported.", low=1, high=1 << 40)
    max_plan_interventions: int = _knob(64, "Interventions in one plan.", low=1, high=64)
    max_plan_scores: int = _knob(50_000_000, "Interventions of one plan times pairs of its dataset.", low=1, high=1 << 40)
    max_ranking_rows: int = _knob(1024, "Pairs that inoculation prompts are ranked on.", low=1, high=1024)
    max_upload_bytes: int = _knob(64 << 30, "Bytes of one upload, over all its calls.", low=1024, high=1 << 50)

    # Streams
    stream_batches: int = _knob(16, "Batches of one stream that are read ahead of its answers.", low=1, high=4096)
    stream_bytes: int = _knob(8 * MIB, "Request bytes of one stream that are read ahead of its answers.", low=1024, high=1 << 32)
    stream_patience_seconds: float = _knob(
        30.0, "How long an overloaded server tries an interactive stream's batch.", low=0.0, high=3600.0
    )

    # Connections and life
    keepalive_seconds: float = _knob(60.0, "Silence after which a connection is probed.", low=1.0, high=7200.0)
    max_connection_age_seconds: float = _knob(3600.0, "Age at which a client is asked to reconnect.", low=1.0, high=864_000.0)
    max_connection_age_grace_seconds: float = _knob(600.0, "Time that its open calls then have.", low=1.0, high=864_000.0)
    drain_seconds: float = _knob(30.0, "Time that accepted work has to finish when the server stops.", low=0.0, high=3600.0)

    # Logs
    log_format: str = _knob("text", "Form of the logs on stderr.", choices=("text", "json"))
    log_level: str = _knob("info", "Least severe log that is written.", choices=("debug", "info", "warning", "error"))

    def __post_init__(self) -> None:
        for knob in dataclasses.fields(self):
            _check_bounds(knob, getattr(self, knob.name))
        _check_files(self)
        _check_roots(self.import_roots)
        _check_redis(self.redis_url)
        _check_label_endpoint(self)
        _check_exposure(self)

    @property
    def bearer_token(self) -> str:
        """The token that calls must carry, from ``token`` or ``token_file``; "" where none is asked for."""
        return self.token or (Path(self.token_file).read_text(encoding="utf-8").strip() if self.token_file else "")

    @property
    def is_public(self) -> bool:
        """Whether other machines can reach the bound address."""
        if self.host == "localhost" or self.host.startswith("unix:"):
            return False
        try:
            return not ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return True  # a name: nobody can say where it leads


def load_config(argv: Sequence[str], environ: Mapping[str, str]) -> ServerConfig:
    """The configuration from command line, environment and the file that ``--config`` or ``ASSAY_CONFIG`` names.

    Raises:
        ConfigError: a value cannot be used, a key is unknown, or the file cannot be read.
        SystemExit: ``--help`` was asked, or a flag is unknown (argparse's own message and code).
    """
    flags = vars(_parser().parse_args(list(argv)))
    path = flags.pop("config", None) or environ.get("ASSAY_CONFIG", "")
    values: dict[str, object] = _read_file(path) if path else {}
    for name, kind in _kinds().items():
        variable = f"ASSAY_{name.upper()}"
        if variable in environ:
            values[name] = _parse(kind, environ[variable], variable)
        if flags.get(name) is not None:
            values[name] = _parse(kind, flags[name], _flag(name))
    return ServerConfig(**cast(Any, values))


def _kinds() -> dict[str, type]:
    hints = get_type_hints(ServerConfig)
    return {knob.name: tuple if get_args(hints[knob.name]) else hints[knob.name] for knob in dataclasses.fields(ServerConfig)}


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="assay serve",
        description="Keeps a language model and its SAE loaded, and scores preference pairs over gRPC.",
        epilog="Every flag is also an environment variable (ASSAY_BATCH_TOKENS) and a key of the TOML file (batch_tokens).",
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="TOML file with the same knobs.")
    kinds = _kinds()
    for knob in dataclasses.fields(ServerConfig):
        text = knob.metadata["help"].replace("%", "%%")
        if knob.metadata["choices"]:
            text += f" One of {', '.join(knob.metadata['choices'])}."
        if knob.default not in ("", (), False):
            text += f" Default: {knob.default}."
        if kinds[knob.name] is bool:
            parser.add_argument(_flag(knob.name), action="store_const", const="true", default=None, help=text)
        else:
            parser.add_argument(_flag(knob.name), metavar=kinds[knob.name].__name__.upper(), default=None, help=text)
    return parser


def _read_file(path: str) -> dict[str, object]:
    try:
        raw = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"Cannot read the configuration file {path}: {error}.", field="config") from error
    kinds = _kinds()
    if unknown := sorted(set(raw) - set(kinds)):
        raise ConfigError(
            f"{path} has unknown keys: {', '.join(unknown)}. `assay serve --help` lists the knobs.", field=unknown[0]
        )
    return {name: _from_toml(kinds[name], value, f"{name} in {path}") for name, value in raw.items()}


def _from_toml(kind: type, value: object, source: str) -> object:
    if kind is tuple and isinstance(value, list):
        return tuple(str(entry) for entry in cast(list[object], value))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return cast(object, value)
    raise ConfigError(f"{source} is a {type(value).__name__}; give a {kind.__name__}.", field=source.split(" ", maxsplit=1)[0])


_BOOLS = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
    "": False,
}


def _parse(kind: type, text: str, source: str) -> object:
    try:
        if kind is bool:
            return _BOOLS[text.strip().lower()]
        if kind is tuple:
            return tuple(part.strip() for part in text.split(",") if part.strip())
        return kind(text)
    except (ValueError, KeyError) as error:
        wanted = "true or false" if kind is bool else "a whole number" if kind is int else "a number"
        raise ConfigError(f"{source} is {text!r}; give {wanted}.", field=source) from error


def _check_bounds(knob: dataclasses.Field[Any], value: Any) -> None:
    choices, low, high = knob.metadata["choices"], knob.metadata["low"], knob.metadata["high"]
    if choices and value not in choices:
        raise ConfigError(f"{knob.name} is {value!r}; give one of {', '.join(choices)}.", field=knob.name)
    if low is not None and not value >= low:  # also refuses NaN
        raise ConfigError(f"{knob.name} is {value}; give at least {low}.", field=knob.name)
    if high is not None and not value <= high:
        raise ConfigError(f"{knob.name} is {value}; give at most {high}.", field=knob.name)


def _check_files(config: ServerConfig) -> None:
    for name in ("token_file", "tls_cert", "tls_key", "labels"):
        path = getattr(config, name)
        if path and not Path(path).is_file():
            raise ConfigError(f"{name} is {path}, which is not a file; give the path of one.", field=name)
    if bool(config.tls_cert) != bool(config.tls_key):
        missing = "tls_key" if config.tls_cert else "tls_cert"
        raise ConfigError(f"{missing} is missing; TLS needs both tls_cert and tls_key.", field=missing)
    if config.token and config.token_file:
        raise ConfigError("token and token_file are both given; keep one.", field="token_file")
    token = config.bearer_token
    if config.token_file and not token:
        raise ConfigError(f"token_file {config.token_file} is empty; write the token into it.", field="token_file")
    if not token.isascii() or any(c.isspace() for c in token):
        raise ConfigError("The token holds spaces or characters outside ASCII; HTTP headers cannot carry it.", field="token")


def _check_roots(roots: tuple[str, ...]) -> None:
    for root in roots:
        if not Path(root).is_dir():
            raise ConfigError(f"import_roots names {root}, which is not a folder; give the path of one.", field="import_roots")


def _check_redis(url: str) -> None:
    if url and urlsplit(url).scheme not in ("redis", "rediss", "unix"):
        scheme = urlsplit(url).scheme
        raise ConfigError(f"redis_url has the scheme {scheme!r}; give redis://, rediss:// or unix://.", field="redis_url")


def _check_label_endpoint(config: ServerConfig) -> None:
    if not config.label_endpoint:
        return
    parts = urlsplit(config.label_endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
        raise ConfigError(
            "label_endpoint is no http:// or https:// address with a host and without a user; give https://HOST/v1, and the key "
            "as label_api_key.",
            field="label_endpoint",
        )
    if not config.label_model:
        raise ConfigError("label_model is missing; name a model of label_endpoint.", field="label_model")
    if not config.label_api_key.isascii() or any(c.isspace() for c in config.label_api_key):
        raise ConfigError("label_api_key holds spaces or is not ASCII; HTTP headers cannot carry it.", field="label_api_key")


def _check_exposure(config: ServerConfig) -> None:
    if not config.is_public or config.allow_insecure_public_bind:
        return
    missing = [
        name for name, present in (("TLS (tls_cert, tls_key)", config.tls_cert), ("a token", config.bearer_token)) if not present
    ]
    if missing:
        raise ConfigError(
            f"host {config.host} can be reached from other machines, and {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing; set what is missing, bind 127.0.0.1, "
            "or say allow_insecure_public_bind.",
            reason="INSECURE_PUBLIC_BIND",
            field="host",
        )
