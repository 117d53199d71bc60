"""Every training experiment, then the page: ``python -m benchmarks.training --pairs FILE [--minutes N]``.

What was run before is taken from the scratch folder; `--minutes` bounds each experiment, and what is missing then is said so.
"""

import subprocess
import sys

for name in ("prediction", "explaining", "amplifying", "speed"):
    print(f"\n$ python -m benchmarks.training.{name}", flush=True)
    words = sys.argv[1:]
    if name == "speed" and "--minutes" in words:
        words = [word for at, word in enumerate(words) if "--minutes" not in words[max(0, at - 1) : at + 1]]
    subprocess.run([sys.executable, "-m", f"benchmarks.training.{name}", *words], check=True)
subprocess.run([sys.executable, "-m", "benchmarks.training.page"], check=True)
