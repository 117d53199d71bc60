"""Writes docs/configuration.md from the server's knobs.

python scripts/configuration.py             writes the page
python scripts/configuration.py --check     fails if the committed page is stale
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

from assay_server.config import ServerConfig
from assay_server.config.loading import default_of, flag_of, variable_of

PAGE = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"
HEAD = """# Configuration

Generated from `server/assay_server/config/knobs.py` by `make docs-reference`. A knob `batch_tokens` is the flag `--batch-tokens`,
the environment variable `ASSAY_BATCH_TOKENS` and the key `batch_tokens` of the TOML file that `--config` or `ASSAY_CONFIG` names.
A flag wins over the environment, the environment over the file, the file over the default. A switch takes no value on the command
line (`--allow-download`), `true` or `false` elsewhere. A list is separated by commas; in TOML it is an array.

A value out of bounds, an unknown key or a file that does not exist ends `assay serve` with exit code 2 and a message that names
the knob, the value and the fix.
"""


def page() -> str:
    """The whole page: a heading and a table per group of knobs."""
    lines = [HEAD.rstrip()]
    for knob in dataclasses.fields(ServerConfig):
        if knob.metadata["group"]:
            lines += ["", f"## {knob.metadata['group']}", "", "| name, flag, environment | value | default | bounds | meaning |"]
            lines += ["| --- | --- | --- | --- | --- |"]
        lines.append(row(knob))
    return "\n".join(lines) + "\n"


def row(knob: dataclasses.Field[Any]) -> str:
    """One knob's row."""
    names = f"`{knob.name}`<br>`{flag_of(knob.name)}`<br>`{variable_of(knob.name)}`"
    default = "off" if knob.default is False else default_of(knob) or "empty"
    meaning = knob.metadata["help"].replace("|", "\\|")
    return f"| {names} | {knob.metadata['form'] or 'switch'} | {default} | {bounds(knob)} | {meaning} |"


def bounds(knob: dataclasses.Field[Any]) -> str:
    """The values that a knob accepts, where fewer than all of its form."""
    if knob.metadata["choices"]:
        return ", ".join(f"`{choice}`" for choice in knob.metadata["choices"])
    low, high = knob.metadata["low"], knob.metadata["high"]
    if low is None:
        return ""
    return f"at least {low:,.15g}" if high is None else f"{low:,.15g} to {high:,.15g}"


def main() -> int:
    """Write the page, or with ``--check`` fail if it is stale."""
    if "--check" in sys.argv[1:]:
        if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page():
            return 0
        print(f"{PAGE.name} is stale: run `make docs-reference` and commit the result.", file=sys.stderr)
        return 1
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
