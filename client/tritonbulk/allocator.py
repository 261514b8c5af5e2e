"""The C allocator, told to keep what a scoring run frees, because it will need it again at once."""

from __future__ import annotations

import ctypes
import sys

KEPT_BYTES = 64 * 2**20
"""Freed bytes at the end of the heap above which memory goes back to the system."""

_MAPPED_BYTES_MIN = 32 * 2**20  # the most that glibc takes: DEFAULT_MMAP_THRESHOLD_MAX
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>


def keep_freed_memory() -> None:
    """Tell glibc to serve messages of a few MB from memory that it already has.

    By default it maps every large block anew and gives it back when it is freed, and the system
    clears each page again. This holds for the
    whole process, so that is for programs to decide; the command line does. Without glibc nothing
    happens.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES_MIN)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
