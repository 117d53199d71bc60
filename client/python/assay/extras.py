"""Optional packages, imported when they are needed, with an error that names the command that installs them."""

import importlib
from typing import Any

from assay.errors import MissingExtra


def pyarrow(module: str = "pyarrow") -> Any:
    """pyarrow, or one of its modules; MissingExtra where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise _missing("Parquet and Arrow files take pyarrow", "cli") from None


def rich(module: str) -> Any | None:
    """A module of rich; None where it is not installed, for plain lines do as well."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def server_main() -> Any:
    """`assay_server.main`; MissingExtra where what it takes is not installed."""
    try:
        return importlib.import_module("assay_server.main")
    except ImportError as error:
        raise _missing(f"`assay serve` takes the server's packages ({error.name or error} is missing)", "server") from None


def _missing(what: str, extra: str) -> MissingExtra:
    return MissingExtra(f"{what}: pip install 'assay[{extra}]'", reason="MISSING_EXTRA", details={"extra": extra})
