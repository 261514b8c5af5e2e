"""One attempt: rows → request → server → checked answers."""

from __future__ import annotations

import asyncio

from tritonbulk.clocks import StageClock
from tritonbulk.dispatch import Failure, Send
from tritonbulk.dispatch.policy import ANSWER_STATUS
from tritonbulk.driver.messages import Answered, Failed, OpenSegment
from tritonbulk.errors import AnswerError, DataError, InputError
from tritonbulk.pipeline import Pipeline
from tritonbulk.transport import AttemptFailedError, Transport

ATTEMPT_TIMEOUT_S = 300.0
"""Deadline of one attempt; a server that is slower than this is taken for silent."""


async def attempt(
    send: Send,
    open_: OpenSegment,
    pipeline: Pipeline,
    transport: Transport,
    stages: StageClock,
    timeout_s: float,
) -> Answered | Failed:
    """Send a request once and return what came of it.

    Args:
        send: which rows, as decided.
        open_: their segment.
        pipeline: how they are encoded and their answer is decoded.
        transport: to the server that was chosen.
        stages: told how long each step takes.
        timeout_s: the attempt's deadline.

    Raises:
        DataError: a value cannot be fed to the model; a retry does not help.
    """
    batch = send.batch
    clock = asyncio.get_running_loop().time
    try:
        with stages.busy("encode"):
            request = pipeline.encoder.encode(open_.encodable, batch.row_begin, batch.rows)
    except InputError as error:
        where = pipeline.name_rows(open_.segment, batch)
        raise DataError(f"{where}: {error}") from error
    began_s = clock()
    try:
        with stages.round_trip():
            reply = await transport.infer(request, timeout_s)
    except AttemptFailedError as error:
        return Failed(send, error.failure, clock() - began_s)
    seconds = clock() - began_s
    try:
        with stages.busy("decode"):
            answers = pipeline.decoder.decode(reply, batch.rows)
    except AnswerError as error:
        reply.release()
        return Failed(send, Failure(2, ANSWER_STATUS, str(error)), seconds)
    return Answered(send, answers, reply, seconds)
