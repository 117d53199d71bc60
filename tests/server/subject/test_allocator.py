"""The allocator's setting, in processes of their own: it holds for a whole process and cannot be undone."""

import subprocess
import sys

import pytest

from tests.support.waiting import PATIENCE

PROGRAM = """
import resource, sys, threading
import torch
from assay_server.subject.allocator import keep_freed_memory

if sys.argv[1] == "keep" and not keep_freed_memory():
    print("absent"); sys.exit()

def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def work():
    def block():  # as a block of a model does: some tensors outlive others
        hidden = torch.ones(1024, 576)
        for _ in range(4):
            gate, up = torch.ones(1024, 1536), torch.ones(1024, 1536)
            hidden = hidden + torch.nn.functional.silu(gate).mul(up)[:, :576]
    for _ in range(8):
        block()
    before = pages()
    for _ in range(20):
        block()
    print(pages() - before)

thread = threading.Thread(target=work)  # the device's thread is not the main one
thread.start(); thread.join()
"""


def faults(mode: str) -> int:
    run = subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True, timeout=PATIENCE)
    if run.stdout.strip() == "absent":
        pytest.skip("this C library is not glibc: there is nothing to set")
    return int(run.stdout)


def test_freed_memory_that_is_kept_is_not_mapped_again() -> None:
    assert faults("keep") < 1000
    assert faults("leave") > 10_000
