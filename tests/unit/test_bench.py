"""The pure half of bench: which trials, and what their figures say."""

from collections import Counter

import pytest
from tritonclient.grpc import service_pb2

from tritonbulk.bench.plan import (
    BenchOptions,
    Setting,
    batch_rows_within,
    plan_trials,
    segment_rows_for,
)
from tritonbulk.bench.statistics import ServerSplit, Trial, server_split, summarize
from tritonbulk.bench.sweep import _lay_out
from tritonbulk.cli.bench import command as bench_command
from tritonbulk.cli.score import command as score_command
from tritonbulk.errors import OptionError
from tritonbulk.source import open_source

OPTIONS = BenchOptions(batch_rows=(64, 256), in_flight=(1, 4, 16), repeats=3)


def test_every_round_runs_every_setting_once_in_an_order_of_its_own():
    trials = plan_trials(OPTIONS)
    assert set(Counter(trials).values()) == {3}
    rounds = [trials[begin : begin + 6] for begin in range(0, 18, 6)]
    assert all(len(set(each)) == 6 for each in rounds)
    assert len({tuple(each) for each in rounds}) > 1
    assert trials == plan_trials(OPTIONS), "the seed fixes the order"


def test_trials_use_the_rows_that_the_source_options_choose(tmp_path):
    (tmp_path / "rows.txt").write_text("a,b\n" + "".join(f"{row},x\n" for row in range(9)))
    source = open_source([str(tmp_path / "rows.txt")], "csv", ["a"], "a > 2")
    sliced = _lay_out(source, 10, 6, tmp_path)
    assert sliced.schema.names == ["a"]
    rows = [value for _, rows in sliced.read(100, ["a"]) for value in rows["a"].to_pylist()]
    assert rows == [3, 4, 5] * 4


def test_score_and_bench_take_the_same_options_of_a_source():
    taken = [{option.name for option in each.params} for each in (bench_command, score_command)]
    assert taken[0] & taken[1] >= {"input_format", "columns", "where", "limit", "keep", "model"}


def test_a_setting_that_is_asked_for_twice_is_one_cell():
    assert plan_trials(BenchOptions((4, 4), (1,), repeats=1)) == [Setting(4, 1)]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_rows": (4, 0)}, "--batch-rows"),
        ({"in_flight": (0,)}, "--in-flight"),
        ({"trial_s": 0.0}, "--trial-seconds"),
        ({"repeats": 0}, "--repeats"),
    ],
)
def test_options_without_a_meaning_are_refused(wrong, message):
    with pytest.raises(OptionError, match=message):
        BenchOptions(**{"batch_rows": (1,), "in_flight": (1,), **wrong})


@pytest.mark.parametrize(
    ("limit", "sizes"),
    [(0, (64, 256, 1024, 4096)), (4, (4,)), (256, (64, 256)), (300, (64, 256, 300)),
     (10**5, (64, 256, 1024, 4096))],
)  # fmt: skip
def test_default_sizes_end_at_the_models_limit(limit, sizes):
    assert batch_rows_within(limit) == sizes


def test_segments_are_short_against_a_trial_and_hold_full_batches():
    assert segment_rows_for(1e6, 2.0, Setting(4096, 16)) == 65_536
    assert segment_rows_for(1e4, 2.0, Setting(64, 16)) == 39 * 64
    assert segment_rows_for(10.0, 2.0, Setting(256, 7)) == 4 * 256


def trial(setting, rate, split=None):
    return Trial(setting, int(rate * 2), 0, 2.0, 0.5, setting.in_flight, split, "unary")


def test_a_cell_has_median_and_extremes_of_its_trials():
    one, other = Setting(64, 1), Setting(256, 1)
    splits = [ServerSplit(64, q, 3.0) for q in (1.0, 9.0, 2.0)]
    trials = [
        trial(other, 500.0),
        *(trial(one, rate, split) for rate, split in zip((100, 300, 110), splits, strict=True)),
    ]
    first, second = summarize(trials)
    assert first.setting == one
    assert (first.rows_per_second, first.rows_per_second_min) == (110, 100)
    assert first.rows_per_second_max == 300
    assert first.cpu_seconds_per_million_rows == pytest.approx(0.5 / 220 * 1e6)
    assert first.server == ServerSplit(64, 2.0, 3.0)
    assert (second.rows_per_second, second.server) == (500, None)


def statistics(requests, rows, executions, queue_ns, compute_ns):
    found = service_pb2.ModelStatistics(inference_count=rows, execution_count=executions)
    found.inference_stats.success.count = requests
    found.inference_stats.queue.ns = queue_ns
    found.inference_stats.success.ns = queue_ns + 3 * compute_ns
    return found


def test_the_server_split_is_the_difference_of_two_readings():
    before = statistics(10, 100, 5, 1_000_000, 1_000_000)
    after = statistics(30, 900, 13, 21_000_000, 11_000_000)
    assert server_split(before, after) == ServerSplit(100.0, 1.0, 1.5)


def test_without_readings_or_executions_there_is_no_split():
    one = statistics(1, 1, 1, 1, 1)
    assert server_split(None, one) is None
    assert server_split(one, None) is None
    assert server_split(one, one) is None
