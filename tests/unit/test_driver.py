"""The driver over a scripted server: every row once, in order, whatever happens on the way."""

import asyncio
import itertools
import time

import numpy as np
import pyarrow as pa
import pytest

from tritonbulk.codec import Reply, RequestEncoder, ResponseDecoder
from tritonbulk.contract import Column, InputTensor, OutputTensor, datatype
from tritonbulk.dispatch import NAN, Failure, Limits
from tritonbulk.driver import drive
from tritonbulk.errors import (
    AnswerError,
    DataError,
    FailureLimitError,
    ModelError,
    OutageError,
    ServerGoneError,
    SinkError,
)
from tritonbulk.events import RequestEnded, RowsFailed
from tritonbulk.pipeline import NoCare, Pipeline
from tritonbulk.segments import Segment
from tritonbulk.testing import ScriptedTransport
from tritonbulk.transport import AttemptFailedError

X = InputTensor("x", datatype("FP32"), (1,), (Column("x"),))
Y = OutputTensor("y", datatype("FP32"), (1,))
BUSY = Failure(14, "UNAVAILABLE", "Exceeds maximum queue size")


def double(tensors):
    return {"y": tensors["x"] * 2}


class Run:
    """A pipeline over ``rows`` rows whose parts are kept in memory."""

    def __init__(self, rows=1000, segment_rows=100, batch_rows=16, values=None):
        self.values = np.arange(rows, dtype=np.float32) if values is None else values
        self.parts = {}
        self.read = 0
        self.progress = []
        self.rows = rows
        self.segment_rows = segment_rows
        self.batch_rows = batch_rows
        self.open_seen = []  # segments in memory whenever one is written
        self.confirmed = 0
        self.answered = []
        self.began = lambda: None

    def segments(self):
        for begin in range(0, self.rows, self.segment_rows):
            column = pa.array(self.values[begin : begin + self.segment_rows])
            self.read += 1
            yield Segment(self.read - 1, 0, begin, len(column)), pa.record_batch({"x": column})

    def write(self, segment, rows, predictions):
        columns = [array.to_pylist() for _, array in predictions.to_columns()]

        def commit():
            self.open_seen.append(self.read - len(self.parts))
            assert segment.index not in self.parts, "a segment is committed once"
            self.parts[segment.index] = columns

        return commit

    async def confirm(self, answered):
        self.confirmed += 1
        self.answered.append(answered)
        return frozenset()

    def drive(
        self,
        *transports,
        in_flight=4,
        watch=lambda: None,
        stop=None,
        stop_grace_s=0.0,
        note=None,
        fails_nan=False,
        care=None,
        **limits,
    ):
        pipeline = Pipeline(
            segments=self.segments(),
            name_rows=lambda s, b: f"in.parquet, rows from {s.row_begin + b.row_begin}",
            encoder=RequestEncoder("m", "1", [X], [Y]),
            decoder=ResponseDecoder([Y], "1"),
            fed=("x",),
            outputs=(Y,),
            names=("y",),
            batch_rows=self.batch_rows,
            fill_rows=16,
            row_bytes_out=4,
            confirm=self.confirm,
            write=self.write,
            fails_nan=fails_nan,
        )
        window = dict.fromkeys(("window_start", "window_max", "requests_max"), in_flight)
        bounds = Limits(**{"max_outage_s": 60.0, "failed_rows_max": 10, **window, **limits})
        observe = lambda ok, failed: self.progress.append(ok + failed)  # noqa: E731

        self.pipeline = pipeline

        async def driven():
            self.loop = asyncio.get_running_loop()
            self.beating = self.began()
            return await drive(
                pipeline, bounds, transports, observe, watch, stop, stop_grace_s, note, care
            )

        return asyncio.run(driven())

    def column(self, position=0):
        return [value for index in sorted(self.parts) for value in self.parts[index][position]]


def test_every_row_is_scored_once_in_order():
    run, server = Run(), ScriptedTransport(double)
    done = run.drive(server)
    assert run.column() == [2.0 * row for row in range(1000)]
    assert (done.rows_ok, done.rows_failed) == (1000, 0)
    assert done.requests == len(server.requests) == 70
    assert server.in_flight_max == done.in_flight_max == 4
    assert run.progress == sorted(run.progress)
    assert run.progress[-1] == 1000
    assert run.confirmed == len(run.parts) == 10


def test_every_stage_of_a_run_is_timed():
    run = Run()
    stages = run.drive(ScriptedTransport(double, delay_s=0.001)).stages
    assert stages.requests == 70
    assert stages.round_trips_s >= 70 * 0.001
    assert 0 < stages.under_way_s <= stages.wall_s
    for busy_s in (stages.read_s, stages.encode_s, stages.decode_s, stages.write_s, stages.loop_s):
        assert 0 < busy_s < stages.wall_s


def test_refused_requests_are_sent_again():
    run, server = Run(rows=100), ScriptedTransport(double, faults=[BUSY, None, BUSY])
    done = run.drive(server)
    assert run.column() == [2.0 * row for row in range(100)]
    assert done.requests == 7 + 2


def test_every_attempt_is_told_to_whoever_counts():
    events = []
    server = ScriptedTransport(double, faults=[BUSY], address="gpu1:8001")
    Run(rows=64).drive(server, in_flight=2, note=events.append)
    ended = [each for each in events if isinstance(each, RequestEnded)]
    assert [each.outcome for each in ended].count("ok") == 4
    assert [each.outcome for each in ended].count("busy") == 1
    assert {each.endpoint for each in ended} == {"gpu1:8001"}
    assert sum(each.rows for each in ended) == 5 * 16
    assert all(each.seconds >= 0 and 1 <= each.window <= 2 for each in ended)
    assert ended[-1].in_flight == 0


def test_two_endpoints_share_the_requests():
    run, servers = Run(), [ScriptedTransport(double, delay_s=0.001) for _ in range(2)]
    run.drive(*servers)
    assert run.column() == [2.0 * row for row in range(1000)]
    assert all(len(server.requests) >= 20 for server in servers)


def test_a_row_that_the_model_rejects_stands_in_the_output_with_its_error():
    def picky(tensors):
        return double(tensors)

    class Picky(ScriptedTransport):
        async def infer(self, request, timeout_s):
            if np.float32(500).tobytes() in request.to_bytes():
                self._faults = [Failure(13, "INTERNAL", "ValueError: five hundred")]
            return await super().infer(request, timeout_s)

    run, events = Run(), []
    done = run.drive(Picky(picky), in_flight=1, note=events.append)
    assert (done.rows_ok, done.rows_failed) == (999, 1)
    assert run.column() == [None if row == 500 else 2.0 * row for row in range(1000)]
    assert [row for row, status in enumerate(run.column(1)) if status] == [500]
    assert run.column(2)[500] == "ValueError: five hundred"
    (told,) = [each for each in events if isinstance(each, RowsFailed)]
    assert told == RowsFailed(rows=1, status=13, text="ValueError: five hundred")


def not_a_number(tensors):
    return {"y": np.where(tensors["x"] % 250 == 3, np.float32(np.nan), 2 * tensors["x"])}


def test_a_prediction_that_is_nan_is_kept_or_fails_its_row():
    run, events = Run(), []
    done = run.drive(ScriptedTransport(not_a_number), fails_nan=True, note=events.append)
    bad = [3, 253, 503, 753]
    assert (done.rows_ok, done.rows_failed) == (996, 4)
    assert run.column() == [None if row in bad else 2.0 * row for row in range(1000)]
    assert [row for row, status in enumerate(run.column(1)) if status == 2] == bad
    assert [run.column(2)[row] for row in bad] == [NAN.text] * 4
    assert sum(each.rows for each in events if isinstance(each, RowsFailed)) == 4
    assert run.progress[-1] == 1000
    run = Run()
    done = run.drive(ScriptedTransport(not_a_number))
    assert (done.rows_ok, done.rows_failed) == (1000, 0)
    assert [row for row, y in enumerate(run.column()) if np.isnan(y)] == bad
    with pytest.raises(
        FailureLimitError,
        match=r"4 rows failed, and --max-failed-fraction allows 3.*the first that failed: "
        r"in.parquet, rows from 3; in.parquet, rows from 253; in.parquet, rows from 503$",
    ) as caught:
        Run().drive(ScriptedTransport(not_a_number), fails_nan=True, failed_rows_max=3)
    assert "rows from 3;" in caught.value.log_text


def test_the_row_that_may_not_fail_is_named():
    def poisoned(tensors):
        if (tensors["x"] == 777).any():
            raise AttemptFailedError(Failure(13, "INTERNAL", "I refuse this row"))
        return double(tensors)

    with pytest.raises(
        FailureLimitError, match=r"none may .*first .*: in.parquet, rows from 777$"
    ) as caught:
        Run(segment_rows=100).drive(
            ScriptedTransport(poisoned), failed_rows_max=0, failed_fraction_max=0.0
        )
    assert caught.value.segment == 7


def test_small_segments_fill_the_window_all_the_same():
    run, server = Run(segment_rows=16), ScriptedTransport(double, delay_s=0.1)
    assert run.drive(server, in_flight=16).in_flight_max == 16


def test_an_endpoint_that_is_dead_costs_nothing_but_its_share():
    class Dead(ScriptedTransport):
        async def infer(self, request, timeout_s):
            raise AttemptFailedError(Failure(14, "UNAVAILABLE", "failed to connect"))

    run, live = Run(), ScriptedTransport(double, delay_s=0.005)
    done = run.drive(Dead(double), live, in_flight=2, max_outage_s=2.0)
    assert run.column() == [2.0 * row for row in range(1000)]
    assert len(live.requests) == 70
    assert done.requests < 70 + 20


def test_memory_holds_few_segments_however_many_there_are():
    run = Run(rows=2000, segment_rows=50)
    # Slower than reading on a busy machine too, so that only the bound keeps the reader back.
    run.drive(ScriptedTransport(double, delay_s=0.02), in_flight=2)
    assert len(run.parts) == 40
    assert max(run.open_seen) <= 5


def test_segments_that_are_large_are_fewer_in_memory():
    run = Run(rows=2000, segment_rows=50)
    run.drive(ScriptedTransport(double), segments_bytes_max=2 * 50 * (4 + 4))
    assert len(run.parts) == 40
    assert max(run.open_seen) <= 3, "two are open, one is being handed over"


def test_a_segment_that_a_filter_emptied_is_written_without_a_request():
    run = Run(rows=30, segment_rows=10)
    nothing = pa.record_batch({"x": pa.array([], pa.float32())})

    def segments():
        for index, (segment, rows) in enumerate(Run.segments(run)):
            yield (Segment(1, 0, 10, 0, 10), nothing) if index == 1 else (segment, rows)

    run.segments = segments
    server = ScriptedTransport(double)
    done = run.drive(server)
    assert (done.rows_ok, done.rows_failed, done.rows_filtered) == (20, 0, 10)
    assert sorted(run.parts) == [0, 1, 2]
    assert run.parts[1][0] == []
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda t: {"y": t["x"][:-1]}, "rows, the model promised"),
        (lambda t: {"y": t["x"].astype(np.float64)}, "came as FP64"),
        (lambda t: {"z": t["x"]}, "lacks output 'y'"),
        (lambda t: {"y": t["x"].reshape(-1)}, "came with shape"),
    ],
)
def test_wrong_answers_are_never_written(answer, message):
    def for_some(tensors):
        return answer(tensors) if (tensors["x"] >= 990).any() else double(tensors)

    run = Run()
    done = run.drive(ScriptedTransport(for_some), in_flight=1)
    assert (done.rows_ok, done.rows_failed) == (990, 10), "these rows alone are to blame"
    assert run.column() == [2.0 * row if row < 990 else None for row in range(1000)]
    assert message in run.column(2)[990]

    def for_most(tensors):
        return answer(tensors) if (tensors["x"] >= 200).any() else double(tensors)

    run = Run()
    with pytest.raises(FailureLimitError, match=message):
        run.drive(ScriptedTransport(for_most), in_flight=1)
    assert set(run.parts) <= {0, 1}, "segments before the wrong answers may be there"

    calls = 0

    def from_then_on(tensors):
        nonlocal calls
        calls += 1
        return answer(tensors) if calls > 20 else double(tensors)

    for first in (20, 0):
        calls = 20 - first
        run = Run()
        with pytest.raises(AnswerError, match=message):
            run.drive(ScriptedTransport(from_then_on), in_flight=1)
        assert all(None not in part[0] for part in run.parts.values())


def test_another_version_of_the_model_is_a_wrong_answer():
    run, server = Run(), ScriptedTransport(double)
    original = server.infer

    async def infer(request, timeout_s):
        reply = await original(request, timeout_s)
        return Reply(reply.response.replace(b"\x12\x011", b"\x12\x012"))

    server.infer = infer
    with pytest.raises(AnswerError, match="version '2'"):
        run.drive(server)


def test_a_bad_value_names_file_and_rows():
    values = np.arange(100, dtype=np.float64)
    values[50] = 1e300
    with pytest.raises(
        DataError, match=r"in.parquet, rows from 48: .*at row 2, which overflows"
    ) as caught:
        Run(rows=100, values=values, segment_rows=16).drive(ScriptedTransport(double))
    assert caught.value.segment == 3


def test_silence_ends_the_run_after_the_allowed_outage():
    down = Failure(14, "UNAVAILABLE", "failed to connect")
    with pytest.raises(OutageError, match="failed to connect"):
        Run().drive(ScriptedTransport(double, faults=[down] * 1000), max_outage_s=0.5)


def test_a_sink_that_fails_stops_the_run_with_its_own_error():
    run = Run()

    def write(segment, rows, predictions):
        raise SinkError("the disk is full")

    run.write = write
    with pytest.raises(SinkError, match="disk is full"):
        run.drive(ScriptedTransport(double))


def test_a_model_that_is_no_longer_the_same_is_not_committed():
    run = Run()

    async def confirm(_):
        run.confirmed += 1
        if run.confirmed > 3:
            raise ModelError("another model under the same version")
        return frozenset()

    run.confirm = confirm
    with pytest.raises(ModelError, match="another model"):
        run.drive(ScriptedTransport(double))
    assert len(run.parts) <= 3


def test_segments_that_a_silent_server_answered_for_are_scored_anew():
    """The first server dies once it has answered; its answers were another model's."""
    run, stale = Run(), ScriptedTransport(lambda tensors: {"y": tensors["x"] * 7})
    asked = []

    async def confirm(answered):
        asked.append(answered)
        # From its first question on it is dead, to requests as well.
        stale._faults[:] = [Failure(14, "UNAVAILABLE", "gone")] * 1000
        return answered & {0}

    run.confirm = confirm
    done = run.drive(stale, ScriptedTransport(double))
    values = {at: columns[0] for at, columns in run.parts.items()}
    assert values == {
        at: [2.0 * row for row in range(at * 100, at * 100 + 100)] for at in range(10)
    }
    assert any(0 in answered for answered in asked)
    assert asked.count(frozenset({1})) == 10
    assert (done.rows_ok, done.rows_failed) == (1000, 0)


def test_a_server_that_answers_but_vouches_for_nothing_gets_nothing_until_it_does():
    run, mute = Run(), ScriptedTransport(double)

    async def confirm(answered):
        run.confirmed += 1
        assert run.confirmed < 100, "its segments are scored without end"
        return answered & {0}

    class Care(NoCare):
        async def check(self, index):
            raise AttemptFailedError(Failure(14, "UNAVAILABLE", "it does not answer"))

    run.confirm = confirm
    done = run.drive(mute, ScriptedTransport(double), care=Care())
    assert run.column() == [2.0 * row for row in range(1000)]
    assert (done.rows_ok, done.rows_failed) == (1000, 0)


def test_a_thread_that_reads_on_is_told_when_nobody_waits_and_the_loop_lives_meanwhile():
    run, stop = Run(), asyncio.Event()
    segments, beats = run.segments, []

    def skipping():
        yield from itertools.islice(segments(), 3)
        run.loop.call_soon_threadsafe(stop.set)
        assert run.pipeline.leaving.wait(30), "it is not told"
        time.sleep(0.2)

    async def beat():
        while True:
            beats.append(time.monotonic())
            await asyncio.sleep(0.01)

    run.segments, run.began = skipping, lambda: asyncio.ensure_future(beat())
    done = run.drive(ScriptedTransport(double), stop=stop, stop_grace_s=60.0)
    assert done.stopped
    assert len(run.parts) == 3
    assert max(b - a for a, b in itertools.pairwise(beats)) < 0.15, "the loop stood still"


def test_a_run_that_is_asked_to_stop_finishes_what_it_has_read():
    run, stop = Run(rows=5000), asyncio.Event()
    write = run.write

    def write_and_stop(*given):
        commit = write(*given)

        def commit_and_stop():
            commit()
            if len(run.parts) == 3:
                run.loop.call_soon_threadsafe(stop.set)

        return commit_and_stop

    run.write = write_and_stop
    # Slow enough that the wish is heard while few segments are done, on a busy machine too.
    server = ScriptedTransport(double, delay_s=0.02)
    done = run.drive(server, stop=stop, stop_grace_s=60.0)
    assert done.stopped
    assert 3 <= len(run.parts) <= 10
    assert run.read <= len(run.parts) + 1, "nothing that was taken on is dropped"


def test_a_stop_that_comes_after_the_last_segment_was_read_changes_nothing():
    run, stop = Run(rows=300), asyncio.Event()

    async def confirm(_):
        while run.read < 3 or not run.exhausted:
            await asyncio.sleep(0.001)
        stop.set()
        return frozenset()

    segments = run.segments

    def told():
        yield from segments()
        run.exhausted = True

    run.exhausted, run.segments, run.confirm = False, told, confirm
    done = run.drive(ScriptedTransport(double), stop=stop, stop_grace_s=60.0)
    assert not done.stopped
    assert len(run.parts) == 3


def test_a_run_that_is_asked_to_stop_drops_what_is_not_done_in_time():
    run, stop = Run(), asyncio.Event()

    async def confirm(_):
        stop.set()
        await asyncio.sleep(3600)

    run.confirm = confirm
    done = run.drive(ScriptedTransport(double), stop=stop, stop_grace_s=0.1)
    assert done.stopped
    assert run.parts == {}


def test_a_dead_embedded_server_stops_the_run(monkeypatch):
    monkeypatch.setattr("tritonbulk.driver.loop.WATCH_S", 0.05)

    def watch():
        raise ServerGoneError("it died")

    with pytest.raises(ServerGoneError, match="it died"):
        Run().drive(ScriptedTransport(double, delay_s=0.5), watch=watch)


def test_nothing_to_score_is_done_at_once():
    run, server = Run(rows=0), ScriptedTransport(double)
    assert run.drive(server).rows_ok == 0
    assert server.requests == []
