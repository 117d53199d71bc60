"""Draws docs/architecture.svg: the server's packages in the layers that import-linter holds, and the rooms in them.

    python scripts/architecture.py             draws the picture
    python scripts/architecture.py --check     fails if the committed picture is stale

The layers come from pyproject.toml, packages and rooms from server/assay_server; only the captions are written here, and a
package without one is an error. The picture follows the reader's colour scheme.
"""

from __future__ import annotations

import sys
import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SERVER = ROOT / "server" / "assay_server"
PICTURE = ROOT / "docs" / "architecture.svg"

CAPTIONS = {
    "main": "from the command line to an exit code",
    "service": "builds the parts, serves, drains",
    "rpc": "translates between the contract and plain data",
    "report": "one HTML page from plain data",
    "jobs": "stored work and the operations behind it",
    "interventions": "decisions compiled into what a trainer applies",
    "scorer": "from pair to features",
    "audit": "statistics over arrays",
    "concepts": "probes and clusters",
    "store": "files and their layout",
    "batching": "two lanes, one thread on the device",
    "cache": "LRU, Redis, single flight",
    "subject": "model, SAE, spans, forward pass, pooling",
    "descriptors": "what a text shows, without a model",
    "errors": "the one family of errors",
    "figures": "numbers as people read them",
    "config": "knobs",
    "telemetry": "metrics, logs",
    "labelling": "feature labels",
    "importing": "pair files on disk",
}
CLIENTS = (("assay", "Python: blocking, asyncio, CLI"), ("@assay/client", "TypeScript"), ("any gRPC client", "by reflection"))

WIDTH, MARGIN, GAP = 1000, 24, 10
SIDE = 190  # width of the column beside the layers
LOW, ROW, ROOMS = 40, 54, 34  # heights: a layer of one package, of several, and what rooms add
STYLE = """
  text { font: 14px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328; }
  .name { font-weight: 600; }
  .small { font-size: 12px; fill: #59636e; }
  .page { fill: #ffffff; }
  .frame { fill: #f6f8fa; stroke: #d1d9e0; }
  .box { fill: #ffffff; stroke: #8c959f; }
  .room { fill: #ddf4ff; stroke: #54aeff; }
  .client { fill: #fff8c5; stroke: #d4a72c; }
  .arrow { stroke: #59636e; stroke-width: 1.5; fill: none; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; }
    .small { fill: #9198a1; }
    .page { fill: #0d1117; }
    .frame { fill: #151b23; stroke: #3d444d; }
    .box { fill: #212830; stroke: #656c76; }
    .room { fill: #0c2d6b; stroke: #388bfd; }
    .client { fill: #3b2300; stroke: #bb8009; }
    .arrow { stroke: #9198a1; }
  }
"""


def layers() -> list[list[str]]:
    """The server's layers, highest first, as the import contract states them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    (stated,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [[name.strip().removeprefix("assay_server.") for name in layer.replace(":", "|").split("|")] for layer in stated]


def packages(folder: Path) -> list[str]:
    """Names of the packages and modules of a folder."""
    folders = [path.parent.name for path in folder.glob("*/__init__.py")]
    return sorted([*folders, *(path.stem for path in folder.glob("*.py") if path.stem != "__init__")])


def rooms(package: str) -> list[str]:
    """The packages within a package."""
    return sorted(path.parent.name for path in (SERVER / package).glob("*/__init__.py"))


def box(kind: str, x: float, y: float, width: float, height: float) -> str:
    """A rounded box of that style."""
    return f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>'


def text(words: str, x: float, y: float, kind: str = "small", anchor: str = "start") -> str:
    """A line of text; its baseline is y."""
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(words)}</text>'


def captioned(package: str, x: float, y: float, width: float, height: float, *, apart: bool = False) -> list[str]:
    """A package: its name, its caption, and its rooms if it has any; ``apart`` puts the caption under the name."""
    lines = [box("box", x, y, width, height)]
    if apart:
        lines += [text(package, x + 12, y + 23, "name"), text(CAPTIONS[package], x + 12, y + 41)]
    else:
        lines += [text(package, x + 12, y + 25, "name"), text(CAPTIONS[package], x + 126, y + 25)]
    if within := rooms(package):
        each = (width - 24 - GAP * (len(within) - 1)) / len(within)
        for index, room in enumerate(within):
            left = x + 12 + index * (each + GAP)
            lines += [box("room", left, y + height - 35, each, 25), text(room, left + each / 2, y + height - 18, "", "middle")]
    return lines


def picture() -> str:
    """The whole picture."""
    stated = layers()
    beside = [name for name in packages(SERVER) if name not in {name for layer in stated for name in layer}]
    main = WIDTH - 2 * MARGIN - SIDE - 3 * GAP - 2
    lines: list[str] = []
    third = (WIDTH - 2 * MARGIN - 2 * GAP) / len(CLIENTS)
    for index, (name, caption) in enumerate(CLIENTS):
        x = MARGIN + index * (third + GAP)
        lines += [
            box("client", x, MARGIN, third, ROW),
            text(name, x + 12, MARGIN + 23, "name"),
            text(caption, x + 12, MARGIN + 41),
        ]
    top = MARGIN + ROW + 44
    lines += [f'<path class="arrow" marker-end="url(#head)" d="M{WIDTH / 2:g} {MARGIN + ROW + 4}V{top - 5}"/>']
    lines += [text("gRPC: proto/assay/v1", WIDTH / 2 + 12, top - 17)]
    y = top + 34
    drawn: list[str] = []
    for layer in stated:
        single = len(layer) == 1
        height = (LOW if single else ROW) + ROOMS * any(rooms(name) for name in layer)
        each = (main - GAP * (len(layer) - 1)) / len(layer)
        for index, name in enumerate(layer):
            drawn += captioned(name, MARGIN + GAP + index * (each + GAP), y, each, height, apart=not single)
        y += height + GAP
    right = MARGIN + main + 2 * GAP
    for index, name in enumerate(beside):
        drawn += captioned(name, right, top + 34 + index * (ROW + GAP), SIDE, ROW, apart=True)
    lines += [box("frame", MARGIN, top, WIDTH - 2 * MARGIN, y - top), *drawn]
    lines += [text("server/assay_server: a layer imports only from those below it", MARGIN + GAP, top + 22)]
    lines += [text("beside the layers", right, top + 22)]
    head = '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    head += '<path class="arrow" d="M1 1L7 4L1 7"/></marker>'
    height = y + MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" height="{height:g}">',
            "<title>Packages of the server in their layers</title>",
            f"<style>{STYLE}</style>",
            f"<defs>{head}</defs>",
            f'<rect class="page" width="{WIDTH}" height="{height:g}"/>',
            *lines,
            "</svg>\n",
        ]
    )


def main() -> int:
    """Draw the picture, or with ``--check`` fail if it is stale."""
    if "--check" in sys.argv[1:]:
        if PICTURE.exists() and PICTURE.read_text(encoding="utf-8") == picture():
            return 0
        print(f"{PICTURE.name} is stale: run `make docs-reference` and commit the result.", file=sys.stderr)
        return 1
    PICTURE.write_text(picture(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
