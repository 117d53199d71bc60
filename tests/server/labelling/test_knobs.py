"""The knobs of the label endpoint: refused with the fix, and the key never shown."""

import pytest
from assay_server.config import ConfigError, ServerConfig, load_config

GOOD = {"label_endpoint": "https://host/v1", "label_model": "judge", "label_api_key": "s3cret"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label_endpoint": "host/v1"}, "label_endpoint is no http"),
        ({"label_endpoint": "ftp://host/v1"}, "label_endpoint is no http"),
        ({"label_endpoint": "https://user:s3cret@host/v1"}, "key as label_api_key"),
        ({"label_model": ""}, "label_model is missing"),
        ({"label_api_key": "s3cret key"}, "label_api_key holds spaces"),
        ({"label_api_key": "s3crét"}, "label_api_key holds spaces"),
        ({"label_timeout_seconds": 0.0}, "label_timeout_seconds is 0.0; give at least"),
        ({"label_concurrency": 0}, "label_concurrency is 0; give at least 1"),
    ],
)
def test_a_bad_knob_is_refused_with_the_fix_and_without_the_key(change: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        ServerConfig(**{**GOOD, **change})
    assert "s3c" not in refused.value.message


def test_the_key_comes_from_the_environment_and_is_not_shown() -> None:
    environ = {f"ASSAY_{name.upper()}": value for name, value in GOOD.items()}
    config = load_config([], environ)
    assert config.label_api_key == "s3cret"
    assert "s3cret" not in repr(config)
