"""What only an operation names goes with it: rankings of inoculation prompts, and how far a making of labels is.

Comparisons go so too; they look after themselves (``comparison_jobs``), and their operations stay until somebody deletes them.
"""

from __future__ import annotations

import asyncio

from assay_server.jobs.operations.jobs import Operations
from assay_server.store.files import Files


async def sweep_results(files: Files, operations: Operations) -> int:
    """Delete the results of operations that are gone; once the operations are read. Returns how many.

    What is there is looked up before the operations are: a result that comes meanwhile has an operation already.
    """
    rankings, runs = await asyncio.to_thread(lambda: (files.names("rankings"), files.names("labels/runs")))
    targets = {operation.target for operation in operations.all()}
    known_runs = {f"{arguments['run']}.json" for arguments in operations.arguments() if "run" in arguments}
    gone = [f"rankings/{name}" for name in rankings if f"rankings/{name.removesuffix('.json')}" not in targets]
    gone += [f"labels/runs/{name}" for name in runs if name not in known_runs]

    def delete() -> None:
        for path in gone:
            files.delete(path)

    await asyncio.to_thread(delete)
    return len(gone)
