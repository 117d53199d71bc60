"""``assay serve``: from the command line to an exit code. The configuration is judged before anything heavy is imported.

Exit codes: 0 after a signal, 2 where the configuration, the installation or the subject cannot be used.
"""

import os
import sys
from collections.abc import Sequence

from assay_server.config import ConfigError, ServerConfig, load_config
from assay_server.errors import AssayError

EXIT_UNUSABLE = 2


def main(argv: Sequence[str]) -> int:
    """Serves until a signal comes; returns the process's exit code.

    Args:
        argv: the arguments after ``assay serve``.
    """
    try:
        config = _usable(load_config(argv, os.environ))
    except AssayError as error:
        print(f"assay serve: {error.message}", file=sys.stderr)
        return EXIT_UNUSABLE
    try:
        from assay_server.service import serve  # torch and gRPC: seconds
    except ModuleNotFoundError as error:
        print(f"assay serve: {error.name} is not installed: pip install 'assay[server]'", file=sys.stderr)
        return EXIT_UNUSABLE
    return serve(config)


def _usable(config: ServerConfig) -> ServerConfig:
    for name in ("model", "sae"):
        if not getattr(config, name):
            raise ConfigError(f"{name} is not set; name what to load with --{name}.", field=name)
    return config


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
