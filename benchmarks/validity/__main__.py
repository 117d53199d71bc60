"""Every validity experiment, then the page: ``python -m benchmarks.validity --pairs FILE``."""

import subprocess
import sys

for name in ("calibration", "power", "conditional", "explained", "agreement"):
    print(f"\n$ python -m benchmarks.validity.{name}", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.validity.{name}", *sys.argv[1:]], check=True)
subprocess.run([sys.executable, "-m", "benchmarks.validity.page"], check=True)
