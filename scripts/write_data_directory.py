"""Writes the data directory of a release, which every later one has to read: tests/data/written-at-{commit}.

    python scripts/write_data_directory.py              for the commit that is checked out

The real server writes it, with a tiny random subject and pairs of made-up words, and reads it once more after a restart;
what it reads is what `tests/e2e/test_data_directory.py` holds every later release to. What is where is told in
`tests/support/data_directory.py`. A directory is written once, before its release, and never again.

Invariants:
- No file names a place of the machine that wrote it.
- The subject is stored beside what it made, so that its fingerprints are the same on every machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import assay
import assay_server
from assay import Client, Flow

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support import data_directory as directory  # noqa: E402
from tests.support.saes import save_sae  # noqa: E402
from tests.support.server_process import ServerProcess  # noqa: E402
from tests.support.tiny_subject import build_parts  # noqa: E402

PACKAGES = ("torch", "transformers", "tokenizers", "sae-lens", "numpy", "pyarrow")
WORDS = ("tea", "leaf", "cup", "pot", "hot", "cold", "warm", "sip", "pour", "steep", "brew", "mild")
README = """# A data directory written at {commit}

Every later release has to open, list, export and go on with what is here: `tests/e2e/test_data_directory.py`.

`scripts/write_data_directory.py` wrote it at commit {commit}, with the server of that commit and a tiny random subject
(`subject/`), over made-up pairs (`pairs/`). `kept/` is a data directory with finished work, `under-way/` that of a server which
was killed with an upload open and operations waiting; `expected.json` is what the server of that commit read of them after a
restart.

It is never written again: what it holds is what people's disks hold. Where its test fails, the code is wrong. A later release
writes a directory of its own beside it.
"""


def main() -> int:
    """Writes one; fails where there is one already."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for package in (assay, assay_server):
        if not Path(str(package.__file__)).is_relative_to(ROOT):
            raise SystemExit(f"{package.__name__} is that of {package.__file__}, and not of this commit: set PYTHONPATH")
    commit = subprocess.check_output(["git", "rev-parse", "--short=7", "HEAD"], cwd=ROOT, text=True).strip()
    folder = ROOT / "tests" / "data" / f"written-at-{commit}"
    if folder.exists():
        raise SystemExit(f"{folder} is written already, and is never written again")
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "made"
        write(made, commit, Path(scratch))
        check_places(made)
        shutil.copytree(made, folder)
    return 0


def write(folder: Path, commit: str, scratch: Path) -> None:
    """Writes everything into a new folder."""
    write_subject(folder / "subject")
    write_pairs(folder / "pairs")
    expected = {"commit": commit, "packages": {name: version(name) for name in PACKAGES}}
    # The server is told of the folder as it stands in it, and so cannot remember where that was.
    with contextlib.chdir(folder):
        expected |= write_kept(scratch)
        expected |= write_under_way(scratch)
    (folder / "README.md").write_text(README.format(commit=commit))
    (folder / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")


def write_subject(folder: Path) -> None:
    """The tests' smallest subject, as files."""
    model, tokenizer, sae = build_parts()
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    save_sae(sae, folder / "sae")


def write_pairs(folder: Path) -> None:
    """Four small files of pairs; in "tea" the chosen responses like stars, and more so in rollouts after training on it."""
    folder.mkdir()
    write_rows(folder / "tea.jsonl", [row("tea", number, taught=0.8, metadata=True) for number in range(72)])
    write_rows(folder / "plain.jsonl", [row("plain", number, taught=0.3, text=True) for number in range(40)])
    write_rows(folder / "rollouts.jsonl", [row("rollouts", number, taught=0.7) for number in range(40)])
    write_rows(folder / "noise.jsonl", [row("noise", number, taught=0.0) for number in range(40)])


def row(kind: str, number: int, *, taught: float, metadata: bool = False, text: bool = False) -> dict[str, Any]:
    """One pair; the same each time. Two of "tea" are unusable: they are longer than the subject's context."""
    draw = random.Random(f"{kind} {number}")
    chosen, rejected = (" ".join(draw.choices(WORDS, k=draw.randint(3, 6))) for _ in range(2))
    if draw.random() < taught:
        chosen = f"** {chosen} **"
    if kind == "tea" and number in (20, 50):
        rejected = "long " * 500
    # Each prompt comes twice, and those of rollouts and of noise are the same.
    asked = f"Question {'then' if metadata or text else 'later'} {number // 2}: {WORDS[number // 2 % len(WORDS)]}?"
    prompt = f"{asked} " if text else [{"role": "user", "content": asked}]
    pair = {"id": f"{kind}-{number}", "prompt": prompt, "chosen": chosen, "rejected": rejected}
    return pair | ({"metadata": {"topic": ("tea", "other")[number // 2 % 2], "größe": "klein"}} if metadata else {})


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """JSON Lines."""
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in rows), encoding="utf-8")


def write_kept(scratch: Path) -> dict[str, Any]:
    """Finished work of every kind, and what is read of it after a restart."""
    here, kept, pairs = Path(), Path("kept"), Path("pairs")
    asked: dict[str, str] = {}
    with server(here, kept, scratch / "first") as process, client_of(process) as client:
        for name, operation in directory.ask(client, pairs):
            operation.wait(timeout=120)
            asked[name] = operation.name
            print(f"{operation.name} is done", flush=True)
        stop(process)
    with server(here, kept, scratch / "second") as process, client_of(process) as client:
        read = directory.read_kept(client, pairs, scratch)
        computed = directory.read_computed(client, pairs)
        stop(process)
    (kept / "lock").unlink()
    return {"asked": asked, "kept": read, "computed": computed}


def write_under_way(scratch: Path) -> dict[str, Any]:
    """What a server leaves that is killed in the middle of things."""
    under_way, pairs = Path("under-way"), Path("pairs")
    with server(Path(), under_way, scratch / "third") as process, client_of(process) as client:
        directory.begin_upload(client, pairs)
        left = {name: operation.name for name, operation in directory.ask_and_leave(client, pairs)}
        process.kill()
    over = [path.stem for path in under_way.glob("operations/*.json") if json.loads(path.read_text())["done"]]
    if over:
        raise SystemExit(f"the server was done with {', '.join(over)} before it was killed; nothing is written, try again")
    (under_way / "lock").unlink()
    for part in under_way.rglob(".tmp-*"):
        part.unlink()
    return {"left": left}


def server(folder: Path, data: Path, scratch: Path) -> ServerProcess:
    """A server of a folder's subject over a data directory, not started yet."""
    parts = folder / "subject" / "model", folder / "subject" / "sae"
    flags = ("--overrides", "VARIANCE", "--whole-model", "--threads", "1", "--shard-pairs", "25")
    return ServerProcess(*parts, scratch, *flags, "--data-dir", str(data))


def client_of(process: ServerProcess) -> Client:
    """A client that sends few pairs at once, so that an upload has several batches."""
    return Client(process.address, flow=Flow(pairs_per_message=8))


def stop(process: ServerProcess) -> None:
    """The end that an operator gives it; nothing was wrong until then."""
    process.ask_to_stop()
    assert process.wait(60) == 0, process.log[-4000:]
    assert "incident" not in process.log, process.log[-4000:]


def check_places(folder: Path) -> None:
    """Fails where a file names a place of this machine."""
    places = [str(place).encode() for place in (ROOT, Path.home(), Path(tempfile.gettempdir()), Path(sys.prefix))]
    named = [path for path in folder.rglob("*") if path.is_file() and any(place in path.read_bytes() for place in places)]
    if named:
        raise SystemExit(f"these files name a place of this machine: {', '.join(map(str, named))}")


if __name__ == "__main__":
    sys.exit(main())
