"""How rows are scored, wherever they come from and go: frozen, checked values with units."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from tritonbulk.access import PLAIN, Access
from tritonbulk.errors import OptionError
from tritonbulk.polite import PRIORITY_MAX, YieldTo
from tritonbulk.profile import Profile

COUNT_MAX = 2**53
"""Most rows or bytes that an option names: what every JSON reader takes for a whole number."""

IN_FLIGHT_MAX = 10_000
"""Most requests in flight that ``--max-in-flight`` takes."""

INSTANCES_MAX = 1_000
"""Most instances that ``--instances`` takes."""

MAX_OUTAGE_S = 900.0
"""Default of ``--max-outage``: how long a run goes on without any server answering."""

REQUEST_TIMEOUT_S = 300.0
"""Default of ``--request-timeout``: a request that takes longer is taken for lost."""

REQUEST_TIMEOUT_S_MAX = 86_400.0
"""Most seconds that ``--request-timeout`` takes."""

MEMORY_BYTES_MIN = 2**20
"""Bytes of rows and requests below which a bound tells of a forgotten unit."""

DEFAULT_REPOSITORY = Path("model_repository")
"""Where the embedded server finds models unless told otherwise."""

TransportName = Literal["auto", "unary", "stream", "shm"]
"""What may carry the requests; see ``docs/transports.md``."""

OnError = Literal["keep", "fail"]
"""What to do about a failed row, by the names that ``--on-error`` takes."""

Nan = Literal["keep", "fail"]
"""What a prediction that is NaN does, by the names that ``--nan`` takes."""

Vectors = Literal["list", "binary"]
"""Columns of vectors by the names that ``--vectors`` takes: fixed-size lists, or their bytes."""


def is_loopback(address: str) -> bool:
    """Return whether a gRPC target names this machine itself, by its text alone."""
    if address.startswith("unix:"):
        return True
    host = re.sub(r"^(ipv[46]:|dns:(///)?)", "", address).rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerOptions:
    """How rows are scored.

    Attributes:
        model: the model's name on the server.
        endpoints: ``host:port`` of running servers; empty starts the embedded server.
        access: how these are reached: TLS and headers.
        priority: of the requests in the model's queue: 1 is served first, higher numbers later; 0
            leaves it to the server.
        yield_to: how long others may wait in the model's queue before less is sent; None takes
            what the servers give.
        repository: explicit model repository, for the embedded server and as a source of the
            contract; None means `DEFAULT_REPOSITORY` for the embedded server and no contract.
        model_version: version to ask for; None takes the newest that the server has ready.
        input_map: tensor name → columns or patterns; stands above any contract.
        keep: input columns to keep in the output (names or patterns); None keeps all of
            the input's.
        rename: output tensor → name of its column.
        vectors: how a prediction of several numbers stands in a row; "binary" is written three
            times as fast.
        batch_rows: rows a request; None derives them from the model (see `dispatch.limits`).
        in_flight_max: requests in flight, over all endpoints; None finds the width while running.
        profile: a measured choice that pins ``batch_rows``, ``in_flight_max`` and ``instances``
            where they are None, and may not contradict them.
        max_outage_s: seconds without a row scored by any server after which the run gives up; 0:
            never.
        request_timeout_s: seconds that one request may take, however long others take.
        on_error: "keep" lets a failed row stand in the output with its error, "fail" stops the run.
        nan: "keep" writes a prediction that has a NaN as it came, "fail" fails its row.
        failed_fraction_max: share of all rows (0…1) that may fail before the run stops; ten rows
            may in any case, unless it is 0.
        instances: model instances in the embedded server; None leaves the repository's choice.
        cpu: whether the embedded server serves models for GPUs on the CPU.
        transport: what carries the requests; "auto" chooses by the model and the servers.
        trust_shared_memory: whether servers at ``endpoints``, all on this machine, may be given
            memory of this process to read and write.
        memory_bytes: bytes of rows, and of requests and answers, that may be held at once, beside
            what the process itself needs (about 150 MB); None takes the defaults of
            `dispatch.limits`. One segment and one request always fit.
        status_columns: whether the output has the columns of status and error; without them a
            failed row stops the run.
    """

    model: str
    endpoints: tuple[str, ...] = ()
    access: Access = PLAIN
    priority: int = 0
    yield_to: YieldTo | None = None
    repository: Path | None = None
    model_version: str | None = None
    input_map: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    keep: tuple[str, ...] | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    vectors: Vectors = "list"
    batch_rows: int | None = None
    in_flight_max: int | None = None
    profile: Profile | None = None
    max_outage_s: float = MAX_OUTAGE_S
    request_timeout_s: float = REQUEST_TIMEOUT_S
    on_error: OnError = "keep"
    nan: Nan = "keep"
    failed_fraction_max: float = 0.01
    instances: int | None = None
    cpu: bool = False
    transport: TransportName = "auto"
    trust_shared_memory: bool = False
    memory_bytes: int | None = None
    status_columns: bool = True

    def __post_init__(self) -> None:
        """Refuse values without a meaning.

        Raises:
            OptionError: names the option, its value and what it may be; a retry does not help.
        """
        self._check_servers()
        if not 0 <= self.priority <= PRIORITY_MAX:
            raise OptionError(f"--priority is {self.priority}; give 1 (served first) or more")
        if not self.model:
            raise OptionError("no model was given; name one with --model")
        check_counts(
            ("--batch-rows", self.batch_rows, COUNT_MAX),
            ("--max-in-flight", self.in_flight_max, IN_FLIGHT_MAX),
            ("--instances", self.instances, INSTANCES_MAX),
        )
        check_seconds("--max-outage", self.max_outage_s)
        if not 0 <= self.failed_fraction_max <= 1:
            raise OptionError(
                f"--max-failed-fraction is {self.failed_fraction_max}; give a share from 0 to 1"
            )
        if not 0.1 <= self.request_timeout_s <= REQUEST_TIMEOUT_S_MAX:
            raise OptionError(
                f"--request-timeout is {self.request_timeout_s}; give seconds from 0.1 to "
                f"{REQUEST_TIMEOUT_S_MAX:.0f}"
            )
        check_names(
            ("--vectors", self.vectors, get_args(Vectors)),
            ("--on-error", self.on_error, get_args(OnError)),
            ("--nan", self.nan, get_args(Nan)),
            ("--transport", self.transport, get_args(TransportName)),
        )
        self._check_memory()
        self._check_profile()
        self._check_shared_memory()

    def _check_servers(self) -> None:
        for endpoint in self.endpoints:
            _check_endpoint(endpoint)
        if self.access != PLAIN and not self.endpoints:
            raise OptionError(
                "TLS and headers are for servers at --endpoint; the embedded one needs none"
            )
        if self.endpoints and (self.instances is not None or self.cpu):
            raise OptionError(
                "--instances and --cpu are for the embedded server; leave them out with --endpoint"
            )

    def _check_memory(self) -> None:
        asked = self.memory_bytes
        if asked is not None and not MEMORY_BYTES_MIN <= asked <= COUNT_MAX:
            raise OptionError(f"--memory is {asked} bytes; give 1MiB to {COUNT_MAX} bytes")

    @property
    def outage_s(self) -> float:
        """Seconds without a row scored after which the run gives up; infinite for never."""
        return self.max_outage_s or math.inf

    @property
    def batch_rows_pinned(self) -> int | None:
        """Rows a request that were asked for or measured; None derives them from the model."""
        return self.batch_rows or (self.profile.batch_rows if self.profile else None)

    @property
    def in_flight_pinned(self) -> int | None:
        """Requests in flight that were asked for or measured; None finds the width."""
        return self.in_flight_max or (self.profile.in_flight if self.profile else None)

    @property
    def instances_pinned(self) -> int | None:
        """Instances in the embedded server that were asked for or measured; None: as configured."""
        return self.instances or (self.profile.instances if self.profile else None)

    def _check_profile(self) -> None:
        if self.profile is None:
            return
        if self.profile.model != self.model:
            raise OptionError(
                f"--profile was measured with model {self.profile.model!r}, not {self.model!r}; "
                "run tritonbulk bench with this one"
            )
        for option, asked, measured in (
            ("--batch-rows", self.batch_rows, self.profile.batch_rows),
            ("--max-in-flight", self.in_flight_max, self.profile.in_flight),
            ("--instances", self.instances, self.profile.instances or self.instances),
        ):
            if asked not in (None, measured):
                raise OptionError(
                    f"{option} is {asked}, but --profile measured {measured}; leave one of them out"
                )

    def _check_shared_memory(self) -> None:
        if self.trust_shared_memory:
            for address in self.endpoints:
                if not is_loopback(address):
                    raise OptionError(
                        f"--trust-shared-memory needs servers on this machine, but {address} is "
                        "not a loopback address; leave it out, or name the server by 127.0.0.1"
                    )
        elif self.transport == "shm" and self.endpoints:
            raise OptionError(
                "--transport shm opens memory of this process to the server at "
                f"{self.endpoints[0]}; add --trust-shared-memory if you trust it"
            )


def check_counts(*counts: tuple[str, int | None, int]) -> None:
    """Refuse numbers (option, value, largest) that are not from 1 to the largest.

    Raises:
        OptionError: names the first of them; a retry does not help.
    """
    for name, value, largest in counts:
        if value is not None and not 1 <= value <= largest:
            raise OptionError(f"{name} is {value}; give a whole number from 1 to {largest}")


def check_seconds(name: str, seconds: float) -> None:
    """Refuse a duration that is negative or endless.

    Raises:
        OptionError: names the option; a retry does not help.
    """
    if not (math.isfinite(seconds) and seconds >= 0):
        raise OptionError(f"{name} is {seconds}; give seconds, 0 or more")


def check_names(*names: tuple[str, str, tuple[str, ...]]) -> None:
    """Refuse words (option, value, known ones) that are not known.

    Raises:
        OptionError: names the first of them; a retry does not help.
    """
    for option, given, known in names:
        if given not in known:
            raise OptionError(f"{option} is {given!r}; give one of {', '.join(known)}")


def _check_endpoint(endpoint: str) -> None:
    """Refuse what gRPC would take for another address than was meant."""
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\s/:]+):(\d{1,5})", endpoint)
    if found and 0 < int(found[2]) < 65_536:
        return
    if endpoint.startswith("dns:") and not re.search(r":\d{1,5}$", endpoint[4:]):
        raise OptionError(
            f"--endpoint {endpoint!r} names no port; give for example dns:///triton.models:8001"
        )
    if re.match(r"(dns|ipv4|ipv6|unix):", endpoint):
        return
    raise OptionError(
        f"--endpoint {endpoint!r} is not of the form HOST:PORT; give for example gpu1:8001, the "
        "port of Triton's gRPC service"
    )
