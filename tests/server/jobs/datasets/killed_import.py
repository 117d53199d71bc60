"""A process that imports a file and ends as ``kill -9`` does when a reading of it has come to a row: ``DATA FILE READING ROW``.

It imports nothing heavy, so that a test may start it often.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from assay_server.importing import read_pair_file
from assay_server.jobs.datasets.run import Imports
from assay_server.jobs.operations.jobs import Operations
from assay_server.store.datasets import Datasets
from assay_server.store.files import DataDir

SHARD = 16


async def main(folder: str, path: Path, reading: int, row: int) -> None:
    readings = 0

    def read(file: Path) -> Iterator[Any]:
        nonlocal readings
        readings += 1
        for place, item in enumerate(read_pair_file(file)):
            if (readings, place) == (reading, row):
                os.kill(os.getpid(), signal.SIGKILL)
            yield item

    data = DataDir(folder)
    operations = Operations(data.files, {"imports": 1})
    imports = Imports(Datasets(data.files, SHARD), operations, roots=[str(path.parent)], read_pairs=read, max_pairs=10_000)
    await operations.start()
    await operations.wait((await imports.begin(path.as_uri(), "", "killed")).name)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
