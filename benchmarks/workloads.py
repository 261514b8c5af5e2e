"""What is measured: which rows go through which model entry, and who takes part. Values only.

A workload goes from file to file, or with ``in_memory`` from payloads in memory to answers in
memory: then it is the way to the server and back that is measured, and no file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Layout = Literal["columns", "list", "text", "flights"]
"""How rows lie in a file: a column a value (``f000``…), one FixedSizeList column ``x``, one column
of text ``x``, or the flights' own columns. All have the row's number in ``id``."""

GRPC, STREAM, SHM = "tritonbulk_grpc", "tritonbulk_stream", "tritonbulk_shm"
OURS = (GRPC, STREAM, SHM)
DURABILITY = tuple(f"tritonbulk_without_{what}" for what in ("sync", "checksums", "both"))
IN_PROCESS = ("in_process_1", "in_process_all", "in_process_spinning")

IN_FLIGHT = 4
"""Requests in flight, a server, of every contender that does not find the number by itself."""

PAYLOADS = 16
"""Different requests that an in-memory workload sends over and over."""

ACCELERATOR_BATCH_ROWS = 1024
ACCELERATOR_EXECUTION_S = (8.0 + 0.05 * ACCELERATOR_BATCH_ROWS) / 1000
"""The simulated accelerator sleeps until a batch of n rows has taken 8 ms + 0.05 ms · n."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One model entry and the rows that go through it.

    Attributes:
        name: in results and on the command line.
        entry: of the model.
        layout: of the file.
        shape: of the tensor that one row makes.
        rows: scored in a full run.
        batch_rows: rows a request for every contender; also the entry's ``max_batch_size``, so that
            tritonbulk takes it by itself.
        contenders: who takes part.
        reference: which of them the others are compared with in the table.
        in_memory: whether no file is read or written.
        servers: how many there are; each has the one model.
    """

    name: str
    entry: str
    layout: Layout
    shape: tuple[int, ...]
    rows: int
    batch_rows: int
    contenders: tuple[str, ...]
    reference: str = GRPC
    in_memory: bool = False
    servers: int = 1

    @property
    def tensors(self) -> tuple[str, str]:
        """Names of the input and the output tensor; the latter names the output column."""
        return ("features", "probabilities") if self.layout == "flights" else ("x", "y")

    @property
    def input_map(self) -> dict[str, tuple[str, ...]]:
        """Tensor → columns; empty where the entry's contract says it."""
        if self.layout == "flights":
            return {}
        return {"x": ("f*",) if self.layout == "columns" else ("x",)}

    @property
    def ideal_rows_s(self) -> float:
        """Rows a second of simulated accelerators that always have a full batch to execute."""
        assert self.entry == "accelerator", "nothing else has a known ideal"
        return self.servers * ACCELERATOR_BATCH_ROWS / ACCELERATOR_EXECUTION_S


def _accelerator(servers: int, rows: int) -> Workload:
    return Workload(
        f"accelerator_{servers}", "accelerator", "columns", (4,), rows, ACCELERATOR_BATCH_ROWS,
        (GRPC, *(("careful_aio",) if servers == 1 else ())), servers=servers,
    )  # fmt: skip


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            "mlp", "mlp", "columns", (64,), 2_097_152, 4096,
            (*OURS, "naive", "careful_aio", *IN_PROCESS),
        ),
        # As many instances as the in-process contenders have threads.
        Workload(
            "mlp_2", "mlp_2", "columns", (64,), 2_097_152, 4096, (GRPC, *IN_PROCESS[1:])
        ),
        Workload(
            "mlp_in_memory", "mlp", "columns", (64,), 2_097_152, 4096,
            (*OURS, "perf_analyzer"), in_memory=True,
        ),
        Workload(
            "flights", "flight_delay", "flights", (9,), 1_010_328, 4096,
            (GRPC, "naive", "careful_aio", *IN_PROCESS[:2]),
        ),
        Workload(
            "heavy", "heavy", "columns", (64,), 65_536, 256,
            (GRPC, "careful_aio", *IN_PROCESS[1:]),
        ),
        Workload(
            "heavy_in_memory", "heavy", "columns", (64,), 65_536, 256,
            (*OURS, *IN_PROCESS[1:], "in_process_sessions", "perf_analyzer"), in_memory=True,
        ),
        Workload(
            "embedding", "embedding", "list", (384,), 131_072, 1024,
            (GRPC, SHM, "naive", "careful_aio", "in_process_1"), reference=SHM,
        ),
        Workload(
            "embedding_in_memory", "embedding", "list", (384,), 393_216, 1024,
            (*OURS, "careful_aio", "in_process_1", "perf_analyzer"), reference=SHM, in_memory=True,
        ),
        Workload(
            "image", "image", "list", (3, 224, 224), 2_048, 8,
            (GRPC, SHM, "careful_aio", "in_process_1"), reference=SHM,
        ),
        Workload(
            "image_in_memory", "image", "list", (3, 224, 224), 8_192, 8,
            (*OURS, "careful_aio", "in_process_1", "perf_analyzer"), reference=SHM, in_memory=True,
        ),
        Workload(
            "strings", "strings", "text", (1,), 2_097_152, 4096,
            (GRPC, "naive", "careful_aio"),
        ),
        # 10 s each at the ideal rate, so that starting and ending are under 3 % of it.
        _accelerator(1, 172_032),
        _accelerator(4, 688_128),
        _accelerator(8, 1_376_256),
        Workload("durability_flights", "flight_delay", "flights", (9,), 1_010_328, 4096,
                 (GRPC, *DURABILITY)),
        Workload("durability_embedding", "embedding", "list", (384,), 131_072, 1024,
                 (SHM, *DURABILITY), reference=SHM),
        # Files of 51 MB and of 2.15 GB.
        Workload("memory_small", "mlp", "columns", (64,), 196_608, 4096, ("tritonbulk_cli",),
                 reference="tritonbulk_cli"),
        Workload("memory_large", "mlp", "columns", (64,), 8_257_536, 4096, ("tritonbulk_cli",),
                 reference="tritonbulk_cli"),
    )
}  # fmt: skip

QUICK = {
    "mlp": (GRPC, SHM, "naive", "careful_aio", "in_process_1"),
    "mlp_2": (GRPC, "in_process_all", "in_process_spinning"),
    "accelerator_1": (GRPC,),
}
"""Workloads of a quick run and who takes part."""

QUICK_SCALE = 0.5


def scaled_rows(workload: Workload, scale: float) -> int:
    """Return the workload's rows times ``scale``: whole batches, two at least."""
    return max(round(workload.rows * scale) // workload.batch_rows, 2) * workload.batch_rows
