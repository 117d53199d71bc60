"""Optional packages, imported when they are needed, with an error that names the command that installs them.

The server is one of them: it adds ``assay serve`` as an entry point of the group `COMMANDS`, and no module here imports it.
"""

import importlib
import importlib.metadata
from collections.abc import Callable, Sequence
from typing import Any

from assay.errors import MissingExtra

COMMANDS = "assay.commands"


def pyarrow(module: str = "pyarrow") -> Any:
    """pyarrow, or one of its modules; MissingExtra where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise _missing("Parquet and Arrow files need pyarrow", "cli") from None


def rich(module: str) -> Any | None:
    """A module of rich; None where it is not installed, for plain lines do as well."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def server_command(name: str) -> Callable[[Sequence[str]], int]:
    """A command that the server's packages add, called with the arguments after its name; MissingExtra without them."""
    why = "no installed package adds it"
    for entry in importlib.metadata.entry_points(group=COMMANDS, name=name):
        try:
            return entry.load()
        except ImportError as error:
            why = f"{error.name or error} is not installed"
    raise _missing(f"`assay {name}` needs the server's packages ({why})", "server")


def _missing(what: str, extra: str) -> MissingExtra:
    return MissingExtra(f"{what}: pip install 'assay[{extra}]'", reason="MISSING_EXTRA", details={"extra": extra})
