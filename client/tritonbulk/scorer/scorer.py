"""The scorer that other programs and engines are given, and the functions that need none."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from tritonbulk.errors import OptionError
from tritonbulk.given import option_fields, strings
from tritonbulk.part import output_schema
from tritonbulk.plan import make_plan
from tritonbulk.scorer.config import ScorerConfig, pin_of
from tritonbulk.scorer.flow import Ahead, bare, conformed, empty, flow
from tritonbulk.scorer.pool import POOL
from tritonbulk.scorer.work import Ready, Work
from tritonbulk.scorer_options import ScorerOptions
from tritonbulk.session import connect, read_contract, serve
from tritonbulk.transport import ServedModel

_Rows = TypeVar("_Rows", pa.RecordBatch, pa.Table)

Endpoints = str | Sequence[str] | Mapping[str, str | Sequence[str]]
"""Addresses of servers; or, by the name of a host, those that processes there use ("*": all)."""

CLOSE_S = 60.0
"""How long the end of `score_batches` waits for its servers to be left."""


class Scorer:
    """Scores rows in any process that it is sent to: picklable, connected when first used.

    All copies in a process share one thread, its connections and the width of its window. Rows
    come back in order, each with its prediction or its error, in the columns that `score` writes.

    Args:
        model: the model's name.
        endpoints: ``host:port`` of running servers, seen from where rows are scored; or a mapping
            from a host's name (or IP address) to those that its processes use, "*" for all others.
        header_env: header → environment variable that holds its secret value, on the workers.
        header_file: header → file that holds its secret value, on the workers.
        options: any other field of `ScorerOptions`; see `tritonbulk.score` for forms it may take.

    Raises:
        OptionError: an option has no meaning; a retry does not help.
    """

    def __init__(
        self,
        model: str,
        *,
        endpoints: Endpoints,
        header_env: Mapping[str, str] | None = None,
        header_file: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        hosts: dict[str, tuple[str, ...]] = {}
        if isinstance(endpoints, Mapping):
            hosts = {host: strings(found) for host, found in endpoints.items()}
            endpoints = tuple(each for found in hosts.values() for each in found)
        if not endpoints:
            raise OptionError(
                "a scorer needs endpoints: the processes that it is sent to start no server; give "
                "for example endpoints=['gpu1:8001']"
            )
        asked = scorer_options("Scorer()", model=model, endpoints=endpoints, **options)
        if asked.access.has_secrets:
            raise OptionError(
                "a scorer is sent to other processes, and a secret is not; give its header by "
                "header_env or header_file, which name where the workers find it"
            )
        self._config = ScorerConfig(asked, hosts, dict(header_env or {}), dict(header_file or {}))

    @property
    def config(self) -> ScorerConfig:
        """All that it consists of."""
        return self._config

    def pinned(self) -> Scorer:
        """Return the same scorer, bound to the version and form of the model as served now.

        Processes that find another one refuse it, so that one piece of work is never scored by two.

        Raises:
            TritonbulkError: no server tells; see its class.
        """
        pinned: Scorer = object.__new__(Scorer)
        model = self._ask()
        options = replace(self._config.options, model_version=model.version or None)
        pinned._config = replace(self._config, options=options, pin=pin_of(model))
        return pinned

    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        """Return the schema of scored rows, given that of the rows.

        Raises:
            TritonbulkError: no server tells, or the rows do not fit the model; see its class.
        """
        options, plain = self._config.anywhere(), bare(schema)
        model = self._ask()
        plan = make_plan(options, model, plain, read_contract(options), "the rows")
        return output_schema(
            [plain.field(name) for name in plan.keep],
            plan.outputs,
            plan.names,
            options.vectors,
            has_status=options.status_columns,
        )

    def score(self, rows: _Rows) -> _Rows:
        """Return a batch or table scored, with as many rows, in order.

        Raises:
            TritonbulkError: what would stop `tritonbulk.score`; see its class.
        """
        with self._held(rows.schema) as work:
            ready = work.ready.result()
            ahead = _handed_over(rows, work, ready)
            done = [future.result() for future in ahead.rest()]
        return _like(rows, done, ready)

    async def score_async(self, rows: _Rows) -> _Rows:
        """Score as `score` does, in the running event loop; many may be awaited at once."""
        with self._held(rows.schema) as work:
            ready = await asyncio.wrap_future(work.ready)
            ahead = _handed_over(rows, work, ready)
            try:
                done = [await asyncio.wrap_future(future) for future in ahead.rest()]
            finally:
                ahead.drop()
        return _like(rows, done, ready)

    def score_batches(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of ``batches`` scored, in order, while later ones are under way.

        They come in batches of another size than they went. ``batches`` is read by whoever reads
        the result, no further ahead than ``memory_bytes`` allows (see `ScorerOptions`). Without a
        batch there is none; of empty ones comes an empty one.

        Raises:
            InputError: a batch has other columns than the first; a retry does not help.
            TritonbulkError: what would stop `tritonbulk.score`; see its class.
        """
        first, rest = _first(batches)
        if first is not None:
            with self._held(first.schema) as work:
                yield from flow(work, work.ready.result(), rest, bare(first.schema))

    def _held(self, schema: pa.Schema) -> AbstractContextManager[Work]:
        return POOL.hold(self._config, bare(schema))

    def _ask(self) -> ServedModel:
        POOL.enter()
        model = _in_thread(_described(self._config.anywhere()))
        self._config.check(model)
        return model


def score_batches(
    batches: Iterable[pa.RecordBatch],
    *,
    model: str,
    endpoints: str | Sequence[str] | None = None,
    repository: str | Path | None = None,
    **options: Any,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of ``batches`` scored, in order; nothing is written.

    Without ``endpoints`` an embedded server is started on ``repository`` for as long as it takes.
    See `Scorer.score_batches` for what comes and what is raised, `tritonbulk.score` for the rest.

    Args:
        batches: of one schema.
        model: the model's name.
        endpoints: ``host:port`` of running servers.
        repository: model repository.
        options: any other field of `ScorerOptions`.
    """
    asked = scorer_options(
        "score_batches()", model=model, endpoints=endpoints, repository=repository, **options
    )
    first, rest = _first(batches)
    if first is None:
        return
    schema = bare(first.schema)
    work = Work(ScorerConfig(asked), schema)
    try:
        yield from flow(work, work.ready.result(), rest, schema)
    finally:
        work.close(CLOSE_S)


async def score_batches_async(
    batches: AsyncIterable[pa.RecordBatch],
    *,
    model: str,
    endpoints: str | Sequence[str] | None = None,
    repository: str | Path | None = None,
    **options: Any,
) -> AsyncIterator[pa.RecordBatch]:
    """Yield as `score_batches` does, in the running event loop."""
    asked = scorer_options(
        "score_batches_async()", model=model, endpoints=endpoints, repository=repository, **options
    )
    work: Work | None = None
    ahead: Ahead | None = None
    try:
        async for batch in batches:
            if work is None or ahead is None:
                schema = bare(batch.schema)
                work = Work(ScorerConfig(asked), schema)
                ready = await asyncio.wrap_future(work.ready)
                ahead = Ahead(work, ready)
            for future in ahead.add(conformed(batch, schema)):
                yield await asyncio.wrap_future(future)
        if ahead is None:
            return
        for future in ahead.rest():
            yield await asyncio.wrap_future(future)
        if ahead.is_unused:
            yield empty(ready)
    finally:
        if ahead is not None:
            ahead.drop()
        if work is not None:
            await asyncio.to_thread(work.close, CLOSE_S)


def scorer_options(caller: str, **given: Any) -> ScorerOptions:
    """Return the options that keywords stand for.

    Raises:
        OptionError: one is not known to ``caller``, or has no meaning; a retry does not help.
    """
    known = [field.name for field in fields(ScorerOptions)]
    return ScorerOptions(**option_fields(given, known, caller))


def _first(
    batches: Iterable[pa.RecordBatch],
) -> tuple[pa.RecordBatch | None, Iterable[pa.RecordBatch]]:
    """Return the first batch, if there is one, and all of them."""
    iterator = iter(batches)
    first = next(iterator, None)
    return first, iterator if first is None else itertools.chain([first], iterator)


def _handed_over(rows: pa.RecordBatch | pa.Table, work: Work, ready: Ready) -> Ahead:
    schema, ahead = bare(rows.schema), Ahead(work, ready)
    batches = [rows] if isinstance(rows, pa.RecordBatch) else rows.to_batches()
    ahead.put(conformed(each, schema) for each in batches)
    return ahead


def _like(rows: Any, done: Sequence[pa.RecordBatch], ready: Ready) -> Any:
    """Return scored batches in the form that the rows had."""
    if isinstance(rows, pa.Table):
        return pa.Table.from_batches(done, ready.schema)
    return pa.concat_batches(done) if len(done) > 1 else [*done, empty(ready)][0]


async def _described(options: ScorerOptions) -> ServedModel:
    async with (
        serve(options, lambda _: None) as servers,
        connect(servers, options, lambda _: None) as (_, model),
    ):
        return model


def _in_thread(question: Any) -> Any:
    """Return what a coroutine returns, run in a thread: the caller may be in an event loop."""
    found: list[Any] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(asyncio.run(question))
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="tritonbulk-ask")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]
