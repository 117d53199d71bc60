"""The embedded default: the demo model's recipe, its trained SAE with labels, and the sample preference pairs.

Every asset here can be rebuilt from the commands in ``demo/README.md``; nothing in the service imports this package.
"""

from pathlib import Path

ASSETS = Path(__file__).parent / "assets"
"""Where the assets that ship are kept."""
