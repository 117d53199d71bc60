"""All readability experiments, without a model and with it, then the page: ``python -m benchmarks.readability --pairs FILE``."""

import subprocess
import sys

for subject in ("none", "demo"):
    for name in ("naming", "conditional", "calibration"):
        print(f"\n$ python -m benchmarks.readability.{name} --subject {subject}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.readability.{name}", "--subject", subject, *sys.argv[1:]]
        subprocess.run(command, check=True)
explained = [sys.executable, "-m", "benchmarks.readability.explained", *sys.argv[1:]]
print(f"\n$ {' '.join(explained[1:])}", flush=True)
subprocess.run(explained, check=True)
subprocess.run([sys.executable, "-m", "benchmarks.readability.page"], check=True)
