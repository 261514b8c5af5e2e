"""One attempt: rows → request → server → checked answers; and the control, which is one as well."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from tritonbulk.clocks import StageClock
from tritonbulk.codec import Answer, EncodableRows, Request, head
from tritonbulk.dispatch import Failure, Probe, Send
from tritonbulk.dispatch.policy import ANSWER_STATUS
from tritonbulk.driver.messages import Answered, Failed, OpenSegment, Probed
from tritonbulk.errors import AnswerError, DataError, InputError, blaming
from tritonbulk.pipeline import Care, Pipeline
from tritonbulk.transport import AttemptFailedError, Transport


async def attempt(
    send: Send,
    open_: OpenSegment,
    pipeline: Pipeline,
    transport: Transport,
    stages: StageClock,
) -> Answered | Failed:
    """Send a request once and return what came of it.

    Args:
        send: which rows, as decided.
        open_: their segment.
        pipeline: how they are encoded and their answer is decoded.
        transport: to the server that was chosen.
        stages: told how long each step takes.

    Raises:
        DataError: a value cannot be fed to the model; a retry does not help.
    """
    batch = send.batch
    clock = asyncio.get_running_loop().time
    rows = batch.rows
    try:
        with stages.busy("encode"):
            if send.is_filled:
                rows = max(pipeline.fill_rows, rows)
                request = _filled(open_.encodable, batch.row_begin, batch.rows, rows, pipeline)
            else:
                request = pipeline.encoder.encode(open_.encodable, batch.row_begin, rows)
    except InputError as error:
        where = pipeline.name_rows(open_.segment, batch)
        raise blaming(DataError(f"{where}: {error}"), batch.segment) from error
    began_s = clock()
    try:
        with stages.round_trip():
            reply = await transport.infer(request, send.timeout_s)
    except AttemptFailedError as error:
        return Failed(send, error.failure, clock() - began_s)
    seconds = clock() - began_s
    try:
        with stages.busy("decode"):
            answers: Sequence[Answer] = pipeline.decoder.decode(reply, rows)
    except AnswerError as error:
        reply.release()
        return Failed(send, Failure(2, ANSWER_STATUS, str(error)), seconds)
    if rows > batch.rows:
        answers = [head(answer, batch.rows) for answer in answers]
    return Answered(send, tuple(answers), reply, seconds)


def control_of(answered: Answered, open_: OpenSegment, pipeline: Pipeline) -> EncodableRows:
    """Return the first row of an answered request, repeated to a full batch, as a control."""
    fed = open_.encodable.rows.select(list(pipeline.fed))
    return pipeline.encoder.prepare(
        _repeated(fed, answered.send.batch.row_begin, 1, pipeline.fill_rows)
    )


async def probe(
    asked: Probe,
    control: EncodableRows | None,
    care: Care,
    pipeline: Pipeline,
    transport: Transport,
) -> Probed:
    """Find out whether an endpoint works.

    Args:
        asked: which one, as decided.
        control: see `control_of`.
        care: asked whether the server has the same model.
        pipeline: how the control is encoded and its answer is checked.
        transport: to the server.

    Raises:
        ModelError: it serves another model than was planned for; a retry does not help.
    """
    clock = asyncio.get_running_loop().time
    began_s = clock()
    failure = None
    try:
        if asked.asks:
            await care.heal(asked.endpoint, is_sick=asked.is_sick)
            await care.check(asked.endpoint)
        if asked.is_control and control is not None:
            rows = len(control.rows) if asked.is_filled else 1
            request = pipeline.encoder.encode(control, 0, rows)
            began_s = clock()
            reply = await transport.infer(request, asked.timeout_s)
            try:
                pipeline.decoder.decode(reply, rows)
            finally:
                reply.release()
    except AttemptFailedError as error:
        failure = error.failure
    except AnswerError as error:
        failure = Failure(2, ANSWER_STATUS, str(error))
    return Probed(asked, failure, clock() - began_s)


def _filled(
    encodable: EncodableRows, begin: int, rows: int, rows_filled: int, pipeline: Pipeline
) -> Request:
    try:
        # Kept columns may be wide, and are not sent.
        fed = encodable.rows.select(list(pipeline.fed))
        repeated = pipeline.encoder.prepare(_repeated(fed, begin, rows, rows_filled))
        return pipeline.encoder.encode(repeated, 0, rows_filled)
    except InputError:
        # Its message counts rows; let it count those of the input.
        pipeline.encoder.encode(encodable, begin, rows)
        raise


def _repeated(rows: pa.RecordBatch, begin: int, count: int, rows_filled: int) -> pa.RecordBatch:
    """Return ``count`` rows, repeated in turn until there are so many; a copy."""
    return rows.take(pa.array(begin + np.arange(rows_filled) % count))
