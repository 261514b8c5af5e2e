"""How an entry is to be served: what a user asks for, and the bounds of it. Values, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tritonbulk.errors import OptionError

Device = Literal["auto", "cpu", "gpu"]
Accelerator = Literal["none", "cuda", "tensorrt"]

MAX_BATCH_SIZE_MAX = 1 << 20
"""Rows; one request is one message, which holds 2 GiB at most."""

INSTANCES_MAX, THREADS_MAX = 1024, 1024
DELAY_US_MAX = 10_000_000
IN_FLIGHT_DEFAULT = 64
"""Requests in flight that a queue is sized for where nobody says how many there will be."""


@dataclass(frozen=True, slots=True)
class BatchSize:
    """``max_batch_size`` and where it comes from.

    Attributes:
        rows: that a request may have.
        reason: for people.
        is_asked: whether the user gave, measured or loaded it. It then also changes an entry that
            already has the content; a default never undoes what was tuned.
    """

    rows: int
    reason: str = "as asked"
    is_asked: bool = True


@dataclass(frozen=True, slots=True)
class Serving:
    """What a user says about serving; the rest is derived.

    Attributes:
        batch_rows: rows that requests will have as a rule; None: full batches.
        in_flight: requests that will be in flight at once; None: not known.
        device: where instances are placed; ``auto`` is the GPU where there is one, else the CPU.
        instances: of the model, a GPU (or a host, on a CPU).
        threads: of one instance within an operator; None: the backend decides.
        queue_delay_us: how long the batcher waits for more rows, in microseconds; None: derived.
        queue_policy: whether the queue is bounded and its requests time out. Costs throughput on
            servers without the fix of core#509.
        priorities: whether there are two priority levels, 1 for online requests and 2, the
            default, for bulk. The same cost.
        warm_up: whether golden rows are run before the model is ready.
        accelerator: of the ONNX Runtime backend on GPUs.
        accelerator_options: keys and values for it, from the list in `accelerators`.
        overrides: a TOML file whose fields replace those of the configuration; None: none.
        asked: names of the fields that were asked for, though they may have their default: that
            too then changes an entry that has another setting, and goes before what was measured.
    """

    batch_rows: int | None = None
    in_flight: int | None = None
    device: Device = "auto"
    instances: int = 1
    threads: int | None = None
    queue_delay_us: int | None = None
    queue_policy: bool = False
    priorities: bool = False
    warm_up: bool = True
    accelerator: Accelerator = "none"
    accelerator_options: Mapping[str, str] = field(default_factory=dict)
    overrides: Path | None = None
    asked: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Refuse what has no meaning.

        Raises:
            OptionError: a number is out of bounds, or options contradict each other. No retry.
        """
        for name, value, least, most in (
            ("--batch-rows", self.batch_rows, 1, MAX_BATCH_SIZE_MAX),
            ("--in-flight", self.in_flight, 1, 1 << 20),
            ("--instances", self.instances, 1, INSTANCES_MAX),
            ("--threads", self.threads, 1, THREADS_MAX),
            ("--queue-delay-us", self.queue_delay_us, 0, DELAY_US_MAX),
        ):
            if value is not None and not least <= value <= most:
                raise OptionError(f"{name} {value} is not between {least:,} and {most:,}")
        if self.accelerator != "none" and self.device == "cpu":
            raise OptionError(
                f"--accelerator {self.accelerator} is for GPUs and --device is cpu; drop one"
            )
        if self.accelerator_options and self.accelerator == "none":
            raise OptionError("--accelerator-option needs --accelerator cuda or tensorrt")


def check_batch_size(rows: int, row_bytes: int) -> None:
    """Check that a request of ``rows`` rows is possible at all.

    Args:
        rows: ``max_batch_size``.
        row_bytes: of inputs and outputs together.

    Raises:
        OptionError: it is below 1, above `MAX_BATCH_SIZE_MAX`, or such a request is above 2 GiB.
    """
    if rows < 1:
        raise OptionError(f"--max-batch-size {rows} is below 1; give at least 1 row")
    most = min(MAX_BATCH_SIZE_MAX, (2**31 - 1) // max(row_bytes, 1))
    if rows > most:
        why = "as many rows as a request may have"
        if most < MAX_BATCH_SIZE_MAX:
            why = f"what 2 GiB, the most that a message holds, have of {row_bytes:,} bytes a row"
        raise OptionError(f"--max-batch-size {rows:,} is above {most:,}, {why}")


@dataclass(frozen=True, slots=True)
class LoadTarget:
    """A running Triton that is told to load what was published.

    Attributes:
        endpoint: gRPC address, ``host:port``.
        headers: metadata of every call, such as the one that opens model control; secret.
        ca: PEM file of the authority behind the server's certificate; None: no TLS.
    """

    endpoint: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca: Path | None = None
