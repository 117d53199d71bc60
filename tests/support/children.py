"""The worker processes of a process, as Linux lists them."""

from contextlib import suppress
from pathlib import Path


def text_workers(parent: int) -> list[int]:
    """Process ids of the processes that describe texts for this one and still run."""
    every = sorted(int(path.name) for path in Path("/proc").glob("[0-9]*"))
    return [one for one in every if parent_of(one) == parent and "text_worker" in command_of(one)]


def running(process: int) -> bool:
    """Whether it exists and has not ended: one that nobody waited for is a zombie."""
    return _state(process)[0] not in ("", "Z", "X")


def parent_of(process: int) -> int:
    """Its parent's id; -1 where it has ended."""
    state, parent = _state(process)
    return parent if state not in ("", "Z", "X") else -1


def command_of(process: int) -> str:
    """Its command line; "" where it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def _state(process: int) -> tuple[str, int]:
    with suppress(OSError, IndexError):
        after_name = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return after_name[0], int(after_name[1])
    return "", -1
