"""``make bench``: every measurement of this machine, then the tables. Arguments go to each: ``--pairs FILE`` is required."""

import subprocess
import sys

for module, *flags in (
    ("benchmarks.engine", "--dtype", "float32"),
    ("benchmarks.engine", "--dtype", "bfloat16"),
    ("benchmarks.service", "--dtype", "float32"),
    ("benchmarks.service", "--dtype", "bfloat16"),
    ("benchmarks.memory",),
):
    print(f"\n$ python -m {' '.join([module, *flags])}", flush=True)
    arguments = sys.argv[1:] if module != "benchmarks.memory" else []
    subprocess.run([sys.executable, "-m", module, *flags, *arguments], check=True)
subprocess.run([sys.executable, "-m", "benchmarks.tables"], check=True)
