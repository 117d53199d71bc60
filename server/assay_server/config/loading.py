"""Where a knob's value comes from: flag over environment variable over TOML file over default."""

import argparse
import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args, get_type_hints

from assay_server.config.checks import ConfigError
from assay_server.config.knobs import MIB, ServerConfig

_BOOLS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False, "": False}
_WANTED = {bool: "true or false", int: "a whole number", float: "a number", str: "text", tuple: "a list"}


def load_config(argv: Sequence[str], environ: Mapping[str, str]) -> ServerConfig:
    """The configuration from command line, environment and the file that ``--config`` or ``ASSAY_CONFIG`` names.

    Raises:
        ConfigError: a value cannot be used, a key is unknown, or the file cannot be read.
        SystemExit: ``--help`` was given, or a flag is unknown (argparse's own message and code).
    """
    flags = vars(_parser().parse_args(list(argv)))
    path = flags.pop("config", None) or environ.get("ASSAY_CONFIG", "")
    values: dict[str, object] = _read_file(path) if path else {}
    for name, kind in _kinds().items():
        if variable_of(name) in environ:
            values[name] = _parse(kind, environ[variable_of(name)], variable_of(name))
        if flags.get(name) is not None:
            values[name] = _parse(kind, flags[name], flag_of(name))
    return ServerConfig(**cast(Any, values))


def flag_of(name: str) -> str:
    """A knob's flag, such as ``--batch-tokens``."""
    return "--" + name.replace("_", "-")


def variable_of(name: str) -> str:
    """A knob's environment variable, such as ``ASSAY_BATCH_TOKENS``."""
    return f"ASSAY_{name.upper()}"


def default_of(knob: dataclasses.Field[Any]) -> str:
    """A knob's default as help and reference show it; "" if it is empty or off."""
    value: object = knob.default
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value or "")
    return f"{value} ({value // MIB} MiB)" if knob.metadata["form"] == "BYTES" else f"{value:.15g}"


def _kinds() -> dict[str, type]:
    hints = get_type_hints(ServerConfig)
    return {knob.name: tuple if get_args(hints[knob.name]) else hints[knob.name] for knob in dataclasses.fields(ServerConfig)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="assay serve",
        description="Keeps a language model and its SAE loaded, and scores preference pairs over gRPC.",
        epilog="Every flag is also an environment variable (ASSAY_BATCH_TOKENS) and a key of the TOML file (batch_tokens).",
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="PATH", help="TOML file with the same knobs.")
    group = parser.add_argument_group()
    for knob in dataclasses.fields(ServerConfig):
        if knob.metadata["group"]:
            group = parser.add_argument_group(knob.metadata["group"])
        text = knob.metadata["help"].replace("%", "%%")
        if knob.metadata["choices"]:
            text += f" One of {', '.join(knob.metadata['choices'])}."
        if default := default_of(knob):
            text += f" Default: {default}."
        if knob.metadata["form"]:
            group.add_argument(flag_of(knob.name), metavar=knob.metadata["form"], help=text)
        else:
            group.add_argument(flag_of(knob.name), action="store_const", const="true", help=text)
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
    return {name: _from_toml(kinds[name], value, f"{name} in {path}", name) for name, value in raw.items()}


def _from_toml(kind: type, value: object, source: str, name: str) -> object:
    if kind is tuple and isinstance(value, list):
        return tuple(str(entry) for entry in cast(list[object], value))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return cast(object, value)
    raise ConfigError(f"{source} is a {type(value).__name__}; give {_WANTED[kind]}.", field=name)


def _parse(kind: type, text: str, source: str) -> object:
    try:
        if kind is bool:
            return _BOOLS[text.strip().lower()]
        if kind is tuple:
            return tuple(part.strip() for part in text.split(",") if part.strip())
        return kind(text)
    except (ValueError, KeyError) as error:
        raise ConfigError(f"{source} is {text!r}; give {_WANTED[kind]}.", field=source) from error
