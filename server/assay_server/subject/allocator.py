"""Keeps the memory of large CPU tensors for the next ones, instead of giving it back to the kernel after every operation.

A forward pass allocates and frees tensors of several MiB hundreds of times per second. glibc's malloc gives such blocks back at
once, and the kernel then maps and zeroes them again, page by page, on the next use: about 3,000 page faults per batch, some
percent of its time (docs/design.md). The process keeps its peak size in exchange, which a server does anyway.
"""

import ctypes

# mallopt's parameters (malloc.h)
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4


def keep_freed_memory() -> bool:
    """Stop returning freed blocks to the kernel, in the whole process. Call it before threads start.

    Returns:
        whether the C library took it; False where it is not glibc, and nothing has changed.
    """
    # The padding keeps the pieces of 64 MiB that a thread's own arena is made of from being unmapped when they empty.
    return _set({_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 1 << 30, _M_TOP_PAD: 64 << 20})


def _set(options: dict[int, int]) -> bool:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    taken = [mallopt(option, value) == 1 for option, value in options.items()]
    return all(taken)
