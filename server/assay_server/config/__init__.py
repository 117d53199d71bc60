"""The server's configuration: ``knobs`` declares every knob, ``loading`` reads them, ``checks`` refuses what cannot be used."""

from assay_server.config.checks import ConfigError
from assay_server.config.knobs import ServerConfig
from assay_server.config.loading import load_config

__all__ = ["ConfigError", "ServerConfig", "load_config"]
