"""Generates the blocking client from the asyncio client.

    python scripts/generate_blocking.py             writes client/python/assay/client from client/python/assay/aio
    python scripts/generate_blocking.py --check     fails, naming the files, if the committed ones differ

| asyncio                               | blocking                                 |
|---------------------------------------|------------------------------------------|
| ``async def``, ``async for``, ...     | without ``async``                        |
| ``await x``, ``(await x).y``          | ``x``, ``x.y``                           |
| ``Awaitable[X]``, ``AsyncGenerator``  | ``X``, ``Generator``                     |
| ``AsyncClient``, ``assay.aio.stream`` | ``Client``, ``assay.stream`` (`NAMES`)   |
| sentences that hold for asyncio only  | their blocking counterparts (`PHRASES`)  |

Invariants:

- `BY_HAND` is not generated: the streams' drivers differ, tasks there and threads here. The blocking ones are `assay.stream` and
  `assay.upload`.
- The folder written holds nothing else, so a module whose source is gone is removed, and `--check` names it.
- A phrase that no module uses any more is an error: no rule outlives its sentence.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "client" / "python" / "assay" / "aio"
TARGET = ROOT / "client" / "python" / "assay" / "client"
BY_HAND = {"stream.py", "upload.py"}
HEADER = "# Generated from {source} by `make client`. Do not edit.\n"

NAMES = {
    "AsyncIterable": "Iterable",
    "AsyncIterator": "Iterator",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__anext__": "__next__",
    "aio_channel": "channel",
    "anext": "next",
}
PHRASES = [
    ("assay.aio.stream import", "assay.stream import"),
    ("assay.aio.upload import", "assay.upload import"),
    ("assay.aio.", "assay.client."),
    ("import asyncio\n", ""),
    ("asyncio.sleep", "time.sleep"),
    (" | AsyncIterable[Pair]", ""),
    ("AsyncGenerator[PairResult, None]", "Generator[PairResult, None, None]"),
    ("AsyncGenerator[OffsetResult, None]", "Generator[OffsetResult, None, None]"),
    ("The asyncio client.", "The blocking client."),
    ("the asyncio client", "the blocking client"),
    ("An asyncio connection", "A blocking connection"),
    ("as an async context manager, or await `close`", "as a context manager, or call `close`"),
    (
        "in a task of its own, with a bounded number of pairs in flight (`Flow`); answers do\n"
        "        not wait for it. A lost connection is opened again and goes on after the last answer (`RetryPolicy`).",
        "in the caller's thread, with a bounded number of pairs in flight (`Flow`). A lost\n"
        "        connection is opened again and goes on after the last answer (`RetryPolicy`). An iterable that waits for\n"
        "        answers before it gives the next pair needs `score_pairs`, or the asyncio client.",
    ),
    (
        "A client is one connection, and belongs to the event loop that it was made in. Pairs may come from an iterable or an "
        "async\niterable; close `score` when you leave it early: ``async with contextlib.aclosing(client.score(pairs)) as "
        "results``.\nErrors are",
        "A client is one connection, safe to share between threads. Errors are",
    ),
]


def main(argv: list[str] | None = None) -> int:
    """Writes or checks the blocking client; returns the process's exit status."""
    parser = argparse.ArgumentParser(description="Generate the blocking client from the asyncio client.")
    parser.add_argument("--check", action="store_true", help="compare with what is there instead of writing it")
    check = parser.parse_args(argv).check
    fresh = generated(SOURCE)
    committed = {path.name: path.read_text(encoding="utf-8") for path in TARGET.glob("*.py")}
    stale = sorted(name for name in fresh.keys() | committed.keys() if fresh.get(name) != committed.get(name))
    for name in stale:
        path = TARGET / name
        if check:
            print(f"stale: {path.relative_to(ROOT)}", file=sys.stderr)
        elif name in fresh:
            TARGET.mkdir(exist_ok=True)
            path.write_text(fresh[name], encoding="utf-8")
        else:
            path.unlink()
    if check and stale:
        print("Run `make client` and commit the result.", file=sys.stderr)
    return int(check and bool(stale))


def generated(folder: Path) -> dict[str, str]:
    """The blocking modules by file name; ValueError where a phrase is used nowhere."""
    sources = {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py")) if path.name not in BY_HAND}
    unused = [phrase for phrase, _ in PHRASES if not any(phrase in source for source in sources.values())]
    if unused:
        raise ValueError(f"no module says {unused[0]!r} any more: drop it from PHRASES")
    return {name: formatted(HEADER.format(source=f"assay/aio/{name}") + blocking(source)) for name, source in sources.items()}


def blocking(source: str) -> str:
    """A module without await."""
    source = re.sub(r"^# ruff: noqa: ASYNC.*\n|  # noqa: ASYNC\d+", "", source, flags=re.MULTILINE)
    if "asyncio.sleep" in source and "import time\n" not in source:
        source = source.replace("import asyncio\n", "import asyncio\nimport time\n")
    for phrase, replacement in PHRASES:
        source = source.replace(phrase, replacement)
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    dropped: set[int] = set()
    for place, token in enumerate(tokens):
        if token.string == "await" and is_primary(tokens, place):
            dropped |= {place - 1, closing(tokens, place - 1)}
        elif token.string == "Awaitable" and tokens[place + 1].string == "[":
            dropped |= {place, place + 1, closing(tokens, place + 1)}
    lines = source.splitlines(keepends=True)
    for place in reversed(range(len(tokens))):
        token = tokens[place]
        (row, start), (_, end) = token.start, token.end
        if token.type == tokenize.STRING:
            replace_lines(lines, token, without_await(token.string))
        elif place in dropped or token.string in ("async", "await"):
            line = lines[row - 1]
            lines[row - 1] = line[:start] + (line[end:] if place in dropped else line[end:].removeprefix(" "))
        elif token.type == tokenize.NAME:
            lines[row - 1] = lines[row - 1][:start] + renamed(token.string) + lines[row - 1][end:]
    return re.sub(r"\bAwaitable, |, Awaitable\b", "", "".join(lines))


def is_primary(tokens: list[tokenize.TokenInfo], place: int) -> bool:
    """Whether an await stands in parentheses of its own, as in ``(await x).y``."""
    if tokens[place - 1].string != "(":
        return False
    return tokens[closing(tokens, place - 1) + 1].string in (".", "[") and tokens[place - 2].type != tokenize.NAME


def closing(tokens: list[tokenize.TokenInfo], opening: int) -> int:
    """The place of the bracket that closes the one at `opening`."""
    depth = 0
    for place in range(opening, len(tokens)):
        if tokens[place].type == tokenize.OP:
            depth += (tokens[place].string in "([{") - (tokens[place].string in ")]}")
            if depth == 0:
                return place
    raise ValueError("a bracket is not closed")


def renamed(name: str) -> str:
    """A name's blocking counterpart."""
    return NAMES.get(name, re.sub(r"^(_?)Async(?=[A-Z])", r"\1", name))


def without_await(text: str) -> str:
    """A docstring or message whose examples do not await."""
    text = re.sub(r"\basync (with|for)\b", r"\1", text)
    text = re.sub(r"\(await ((?:[\w.]|\([^()]*(?:\([^()]*\)[^()]*)*\))+)\)(?=\.)", r"\1", text)
    text = re.sub(r"\bawait (?=\w|\()", "", text)
    return re.sub(r"\bAsync(?=[A-Z])", "", text)


def replace_lines(lines: list[str], token: tokenize.TokenInfo, text: str) -> None:
    """Puts text in a token's place."""
    (first, start), (last, end) = token.start, token.end
    whole = lines[first - 1][:start] + text + lines[last - 1][end:]
    lines[first - 1 : last] = whole.splitlines(keepends=True)


def formatted(source: str) -> str:
    """As `make format` leaves it."""
    for command in (["check", "--select", "F401,I,UP028", "--fix-only", "--unsafe-fixes"], ["format"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--quiet", "--stdin-filename", str(SOURCE / "module.py"), "-"]
        source = subprocess.run(ruff, input=source, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    return source


if __name__ == "__main__":
    sys.exit(main())
