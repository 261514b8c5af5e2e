"""Bottleneck: the stage that is named is the one that bounded the run."""

import asyncio
import time
from dataclasses import replace

import pytest
from tritonclient.grpc import model_config_pb2, service_pb2

from tritonbulk.bottleneck import StageSeconds, describe, find_bottleneck
from tritonbulk.clocks import StageClock
from tritonbulk.server_statistics import ServerSeconds, server_seconds, total_seconds
from tritonbulk.transport.served_model import _instances

IDLE = StageSeconds(
    wall_s=10.0, read_s=1.0, encode_s=0.5, decode_s=0.3, loop_s=1.0, write_s=0.8,
    under_way_s=9.0, round_trips_s=40.0, requests=1000,
)  # fmt: skip
"""Nothing is busy here; requests of 40 ms are under way most of the time."""

SERVER = ServerSeconds(
    requests=1000, executions=500, rows=1_000_000, queue_s=5.0, compute_s=10.0,
    executing_s=5.0, instances=1,
)  # fmt: skip


@pytest.mark.parametrize(
    ("stages", "server", "stage"),
    [
        ({"read_s": 9.0}, {}, "read"),
        ({"write_s": 9.9, "read_s": 9.0}, {}, "write"),
        ({"loop_s": 9.0, "encode_s": 6.0}, {}, "encode"),
        ({"loop_s": 9.0, "decode_s": 6.0}, {}, "decode"),
        ({"loop_s": 9.0}, {}, "wire"),
        ({}, {"executing_s": 9.5}, "server compute"),
        ({}, {"executing_s": 19.0, "instances": 2}, "server compute"),
    ],
)
def test_what_is_busy_nearly_all_of_the_time_is_the_bottleneck(stages, server, stage):
    found = find_bottleneck(replace(IDLE, **stages), replace(SERVER, **server))
    assert (found.stage, found.is_saturated) == (stage, True)
    assert "busy nearly all of the time" in describe(found)


@pytest.mark.parametrize(
    ("stages", "server", "stage"),
    [
        ({}, {}, "wire"),
        ({}, {"queue_s": 35.0, "compute_s": 2.0}, "server queue"),
        ({}, {"compute_s": 35.0}, "server compute"),
        # Two instances, one of which is always busy: another request in flight would help.
        (
            {"round_trips_s": 10.0},
            {"queue_s": 0, "executing_s": 9.5, "instances": 2},
            "server compute",
        ),
        ({"under_way_s": 2.0, "read_s": 6.0}, {}, "read"),
    ],
)
def test_where_nothing_is_busy_the_round_trip_tells(stages, server, stage):
    found = find_bottleneck(replace(IDLE, **stages), replace(SERVER, **server))
    assert (found.stage, found.is_saturated) == (stage, False)
    assert "none stands out" in describe(found)


def test_a_server_that_does_not_tell_is_not_made_up():
    found = find_bottleneck(IDLE, None)
    assert found.stage == "server or wire"
    assert found.load.instances is found.load.queue_ms is found.load.compute_ms is None
    assert describe(found) == (
        "server or wire (none stands out: read 10%, event loop 10% (encode 5%, decode 3%), "
        "write 8%; a request took 40.0 ms)"
    )


def test_the_sentence_has_the_figures_of_the_server():
    assert describe(find_bottleneck(IDLE, SERVER)).endswith(
        "model instances 50%; a request took 40.0 ms, 5.0 in the server's queue, 10.0 in compute)"
    )


def test_a_run_without_requests_has_no_bottleneck():
    assert find_bottleneck(StageSeconds(1.0, 0.9, 0, 0, 0.1, 0.2, 0, 0, 0), None) is None


def statistics(requests, ms):
    """Return counters after so many requests, two an execution, of so many milliseconds each."""
    found = service_pb2.ModelStatistics(inference_count=requests * 8, execution_count=requests // 2)
    found.inference_stats.success.count = requests
    found.inference_stats.success.ns = requests * ms * 1_000_000
    found.inference_stats.queue.ns = requests * 1_000_000
    size = found.batch_stats.add(batch_size=16)
    size.compute_input.ns = size.compute_output.ns = requests * 100_000
    size.compute_infer.ns = requests * 300_000
    return found


def test_the_seconds_of_servers_are_differences_and_add_up():
    one = server_seconds(statistics(10, 3), statistics(1010, 3), instances=2)
    assert (one.requests, one.executions, one.rows, one.instances) == (1000, 500, 8000, 2)
    assert (one.queue_s, one.compute_s, one.executing_s) == pytest.approx((1.0, 2.0, 0.5))
    before, after = [statistics(10, 3)] * 3, [statistics(1010, 3), None, statistics(1010, 3)]
    both = total_seconds(before, after, instances=2)
    assert (both.requests, both.instances) == (2000, 4)
    assert both.compute_s == pytest.approx(4.0)


def test_silent_or_idle_servers_have_no_seconds():
    assert total_seconds([None], [None], 1) is None
    assert server_seconds(statistics(10, 3), statistics(10, 3), 1) is None


def test_instances_are_counted_over_groups_and_gpus():
    groups = [
        model_config_pb2.ModelInstanceGroup(count=2, gpus=[0, 1]),
        model_config_pb2.ModelInstanceGroup(count=3),
        model_config_pb2.ModelInstanceGroup(count=5, passive=True),
    ]
    assert _instances(groups) == 7


def test_the_clock_adds_up_stages_and_round_trips():
    async def run():
        clock = StageClock()

        async def request():
            with clock.round_trip():
                await asyncio.sleep(0.05)

        await asyncio.gather(request(), request())
        await asyncio.sleep(0.05)
        with clock.busy("encode"):
            time.sleep(0.02)
        with clock.busy("encode"):
            time.sleep(0.02)
        return clock.so_far(laid_out_s=0.01)

    seconds = asyncio.run(run())
    assert seconds.requests == 2
    assert seconds.encode_s >= 0.05
    assert seconds.round_trips_s >= 0.09
    assert 0.05 <= seconds.under_way_s <= seconds.round_trips_s + 0.01
    assert seconds.wall_s >= 0.14
    assert seconds.read_s == seconds.write_s == seconds.decode_s == 0
