"""The allocators, told to keep what a scoring run frees, because it will need it again at once."""

from __future__ import annotations

import ctypes
import os
import sys

import pyarrow as pa

KEPT_BYTES = 64 * 2**20
"""Freed bytes at the end of the heap above which memory goes back to the system."""

_MAPPED_BYTES_MIN = 32 * 2**20  # the most that glibc takes: DEFAULT_MMAP_THRESHOLD_MAX
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
_NEVER = -1


def keep_freed_memory() -> None:
    """Tell glibc and Arrow to serve messages and columns from memory that they already have.

    By default they give large blocks back to the system when they are freed, which clears each page
    again when it is needed. This holds for the whole process, so that is for programs to decide;
    the command line does. Where an allocator is another one, or ARROW_DEFAULT_MEMORY_POOL names
    Arrow's, it is left as it is.
    """
    _keep_in_glibc()
    _keep_in_arrow()


def _keep_in_glibc() -> None:
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES_MIN)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)


def _keep_in_arrow() -> None:
    if "ARROW_DEFAULT_MEMORY_POOL" in os.environ:
        return
    if "jemalloc" in pa.supported_memory_backends():
        # It also holds a tenth less than mimalloc, whose blocks the reader frees in other threads.
        pa.set_memory_pool(pa.jemalloc_memory_pool())
        pa.jemalloc_set_decay_ms(_NEVER)
