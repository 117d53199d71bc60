"""Commands that a test starts, watches and may have to end."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def started(command: Sequence[str], **options: Any) -> Iterator["subprocess.Popen[str]"]:
    """A process while the block runs; whatever still runs of it afterwards is killed, and it is waited for."""
    with subprocess.Popen(command, text=True, **options) as process:  # closes its pipes and waits for it
        try:
            yield process
        finally:
            process.kill()
