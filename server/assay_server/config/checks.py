"""What a configuration must hold to be used. Each check takes the values that it needs and raises ``ConfigError``.

Invariants:
- A message names the knob, its value and the fix, and never shows a secret.
- A server that other machines can reach speaks TLS and requires a token, or ``allow_insecure_public_bind`` is set.
"""

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from assay_server.errors import AssayError


class ConfigError(AssayError):
    """A knob's value cannot be used; the message names it, its value and the fix."""

    default_reason = "INVALID_CONFIG"


def check_bounds(name: str, value: Any, metadata: Mapping[str, Any]) -> None:
    """Refuse a value outside its choices or bounds."""
    choices, low, high = metadata["choices"], metadata["low"], metadata["high"]
    if choices and value not in choices:
        raise ConfigError(f"{name} is {value!r}; give one of {', '.join(choices)}.", field=name)
    if low is not None and not value >= low:  # also refuses NaN
        raise ConfigError(f"{name} is {value}; give at least {low}.", field=name)
    if high is not None and not value <= high:
        raise ConfigError(f"{name} is {value}; give at most {high}.", field=name)


def check_paths(files: Mapping[str, str], folders: tuple[str, ...]) -> None:
    """Refuse a named file that does not exist, and an import root that is not a folder."""
    for name, path in files.items():
        if path and not Path(path).is_file():
            raise ConfigError(f"{name} is {path}, which is not a file; give the path of one.", field=name)
    for root in folders:
        if not Path(root).is_dir():
            raise ConfigError(f"import_roots names {root}, which is not a folder; give the path of one.", field="import_roots")


def check_tls(certificate: str, key: str) -> None:
    """Refuse a certificate without its key, and a key without its certificate."""
    if bool(certificate) != bool(key):
        missing = "tls_key" if certificate else "tls_cert"
        raise ConfigError(f"{missing} is missing; TLS needs both tls_cert and tls_key.", field=missing)


def check_token(given: str, file: str, token: str) -> None:
    """Refuse two sources of the token, an empty file, and a token that HTTP headers cannot carry."""
    if given and file:
        raise ConfigError("token and token_file are both given; keep one.", field="token_file")
    if file and not token:
        raise ConfigError(f"token_file {file} is empty; write the token into it.", field="token_file")
    if not _fits_header(token):
        raise ConfigError("The token holds spaces or characters outside ASCII; HTTP headers cannot carry it.", field="token")


def check_redis(url: str) -> None:
    """Refuse an address that redis-py cannot open."""
    if url and (scheme := urlsplit(url).scheme) not in ("redis", "rediss", "unix"):
        raise ConfigError(f"redis_url has the scheme {scheme!r}; give redis://, rediss:// or unix://.", field="redis_url")


def check_label_endpoint(endpoint: str, model: str, key: str) -> None:
    """Refuse an endpoint that is no HTTP address, that carries a user, or that lacks its model."""
    if not endpoint:
        return
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
        raise ConfigError(
            "label_endpoint is no http:// or https:// address with a host and without a user; give https://HOST/v1, and the key "
            "as label_api_key.",
            field="label_endpoint",
        )
    if not model:
        raise ConfigError("label_model is missing; name a model of label_endpoint.", field="label_model")
    if not _fits_header(key):
        raise ConfigError("label_api_key holds spaces or is not ASCII; HTTP headers cannot carry it.", field="label_api_key")


def is_public(host: str) -> bool:
    """Whether other machines can reach a server bound to that address."""
    if host == "localhost" or host.startswith("unix:"):
        return False
    try:
        return not ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return True  # a name, which may resolve to anything


def check_exposure(host: str, certificate: str, token: str) -> None:
    """Refuse a public address without TLS or without a token."""
    required = (("TLS (tls_cert, tls_key)", certificate), ("a token", token))
    missing = [name for name, given in required if not given]
    if missing and is_public(host):
        raise ConfigError(
            f"host {host} can be reached from other machines, and {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing; set what is missing, bind 127.0.0.1, "
            "or set allow_insecure_public_bind.",
            reason="INSECURE_PUBLIC_BIND",
            field="host",
        )


def _fits_header(secret: str) -> bool:
    return secret.isascii() and not any(c.isspace() for c in secret)
