"""The site builds strictly and loads nothing from the network. Needs the extra `docs`, which `make site` installs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_site_builds_strictly_and_has_the_clients_api(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    client = (tmp_path / "api" / "client.html").read_text(encoding="utf-8")
    for name in ("Client.score", "AsyncClient.audit", "Pair", "ConnectionFailed"):
        assert f'id="assay.{name}"' in client
    home = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert 'href="configuration.html"' in home
    assert 'src="architecture.svg"' in home
    assert not re.search(r'href="[^"#:]*\.md["#]', home)
