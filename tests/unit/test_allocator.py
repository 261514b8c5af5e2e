"""What a run frees is used again, instead of being given back and cleared by the system."""

import subprocess
import sys

import pyarrow as pa
import pytest

FREE_AND_TAKE_AGAIN = """
import resource
{first}
blocks = [b"x" * 2**20 for _ in range(40)]
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    del blocks
    blocks = [b"x" * 2**20 for _ in range(40)]
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(first):
    code = FREE_AND_TAKE_AGAIN.format(first=first)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_freed_memory_is_kept():
    kept = page_faults("from tritonbulk.allocator import keep_freed_memory; keep_freed_memory()")
    # 20 times 40 MiB are 204,800 pages of 4 KiB; huge pages would make it fewer.
    assert kept < 1_000 < page_faults("")


ARROW_POOL = """
import pyarrow as pa
from tritonbulk.allocator import keep_freed_memory
keep_freed_memory()
print(pa.default_memory_pool().backend_name)
"""


@pytest.mark.skipif(
    "jemalloc" not in pa.supported_memory_backends(), reason="this Arrow has no jemalloc"
)
def test_arrows_allocator_is_chosen_unless_somebody_has_chosen(monkeypatch):
    def chosen():
        return subprocess.run(
            [sys.executable, "-c", ARROW_POOL], capture_output=True, text=True, check=True
        ).stdout.strip()

    assert chosen() == "jemalloc"
    monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", "system")
    assert chosen() == "system"
