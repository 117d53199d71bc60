"""Knobs: where values come from, which win, and what is refused."""

import dataclasses
import re
from pathlib import Path

import pytest
from assay_server.config import ConfigError, ServerConfig, load_config


def test_defaults_serve_this_machine_only() -> None:
    config = load_config([], {})
    assert config == ServerConfig()
    assert (config.host, config.port, config.is_public) == ("127.0.0.1", 50151, False)
    assert config.allow_download is False


def test_flag_wins_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = tmp_path / "assay.toml"
    file.write_text('port = 1\nbatch_tokens = 10\nwindow = 20\noverrides = ["BOS", "MODEL_NAME"]\nageing_seconds = 3\n')
    environ = {"ASSAY_CONFIG": str(file), "ASSAY_PORT": "2", "ASSAY_BATCH_TOKENS": "11", "ASSAY_ALLOW_DOWNLOAD": "yes"}
    config = load_config(["--port", "3"], environ)
    assert (config.port, config.batch_tokens, config.window, config.lru_bytes) == (3, 11, 20, 256 << 20)
    assert config.overrides == ("BOS", "MODEL_NAME")
    assert config.ageing_seconds == 3.0
    assert config.allow_download is True
    assert load_config(["--config", str(file)], {}).port == 1


def test_every_knob_can_be_set_each_way_and_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        load_config(["--help"], {})
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for knob in dataclasses.fields(ServerConfig):
        assert "--" + knob.name.replace("_", "-") in text
        assert knob.metadata["help"].endswith(".")


@pytest.mark.parametrize(
    "line",
    [
        "--model PATH",
        "--redis-url URL",
        "--host HOST",
        "--import-roots LIST",
        "--port N",
        "--lru-bytes BYTES",
        "--drain-seconds SECONDS",
        "--sae-id TEXT",
        "--config PATH",
    ],
)
def test_help_says_what_a_value_is(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load_config(["--help"], {})
    text = capsys.readouterr().out
    assert re.search(rf"^  {line}\s", text, re.MULTILINE)
    assert not re.search(r"\b(STR|INT|FLOAT|TUPLE|BOOL)\b", text)
    assert "Default: 268435456 (256 MiB)." in " ".join(text.split())


def test_a_switch_takes_no_value_and_is_off() -> None:
    for knob in dataclasses.fields(ServerConfig):
        assert (knob.metadata["form"] == "") == (knob.default is False)


def test_lists_are_separated_by_commas() -> None:
    assert load_config(["--overrides", "A, B,,"], {}).overrides == ("A", "B")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--port", "x"], "--port is 'x'; give a whole number"),
        (["--port", "70000"], "port is 70000; give at most 65535"),
        (["--metrics-port", "-2"], "metrics_port is -2; give at least -1"),
        (["--drain-seconds", "nan"], "drain_seconds is nan"),
        (["--drain-seconds", "inf"], "drain_seconds is inf"),
        (["--dtype", "int8"], "dtype is 'int8'; give one of auto, float32"),
        (["--redis-url", "http://x"], "scheme 'http'"),
        (["--tls-cert", "/nowhere"], "tls_cert is /nowhere, which is not a file"),
        (["--token", "two words"], "spaces"),
        (["--config", "/nowhere.toml"], "Cannot read the configuration file"),
    ],
)
def test_a_bad_value_is_refused_with_the_fix(argv: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        load_config(argv, {})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("nope = 1", "unknown keys: nope"),
        ("port = true", "port in"),
        ('port = "1"', "port in .* is a str; give a whole number"),
        ("port = ", "Cannot read"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "assay.toml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=words):
        load_config(["--config", str(file)], {})


def test_an_unknown_flag_ends_with_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        load_config(["--prot", "1"], {})
    assert ended.value.code == 2


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "[::]"])
def test_a_public_bind_needs_tls_and_a_token_or_the_flag(host: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        ServerConfig(host=host)
    assert caught.value.reason == "INSECURE_PUBLIC_BIND"
    assert "TLS" in caught.value.message
    assert "token" in caught.value.message
    with pytest.raises(ConfigError, match="TLS"):
        ServerConfig(host=host, token="secret")
    pem = tmp_path / "x.pem"
    pem.write_text("x")
    with pytest.raises(ConfigError, match="a token is missing"):
        ServerConfig(host=host, tls_cert=str(pem), tls_key=str(pem))
    assert ServerConfig(host=host, token="secret", tls_cert=str(pem), tls_key=str(pem)).is_public
    assert ServerConfig(host=host, allow_insecure_public_bind=True).is_public


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost", "unix:/tmp/x"])
def test_a_loopback_bind_needs_nothing(host: str) -> None:
    assert not ServerConfig(host=host).is_public


def test_secrets_do_not_show(tmp_path: Path) -> None:
    config = ServerConfig(token="hidden-token", redis_url="redis://:hidden-password@localhost:6379/0")
    assert "hidden" not in repr(config)
    with pytest.raises(ConfigError) as caught:
        ServerConfig(token="hidden token")
    assert "hidden" not in str(caught.value)
    empty = tmp_path / "token"
    empty.write_text("\n")
    with pytest.raises(ConfigError, match="empty"):
        ServerConfig(token_file=str(empty))
    with pytest.raises(ConfigError, match="keep one"):
        ServerConfig(token="a", token_file=str(empty))


def test_a_certificate_needs_its_key(tmp_path: Path) -> None:
    pem = tmp_path / "x.pem"
    pem.write_text("x")
    with pytest.raises(ConfigError, match="tls_key is missing"):
        ServerConfig(tls_cert=str(pem))
