"""The pure half of bench: which trials, what their figures say, and what is recommended."""

import json
import logging
from collections import Counter
from dataclasses import replace
from itertools import chain, pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import LocalFileSystem
from tritonclient.grpc import service_pb2

from tritonbulk.bench.cells import fit_of, knee_of, summarize
from tritonbulk.bench.log import TrialLog, read_log
from tritonbulk.bench.metrics import parse_gpu
from tritonbulk.bench.options import BenchOptions, batch_rows_within, segment_rows_for
from tritonbulk.bench.search import Space, grid_rounds, interleave
from tritonbulk.bench.setting import Setting, Variant
from tritonbulk.bench.slice import lay_out
from tritonbulk.bench.trial import (
    Executed,
    Gpu,
    Noise,
    ServerSplit,
    Trial,
    server_split,
    trial_from_plain,
    trial_to_plain,
)
from tritonbulk.bench.verdict import judge
from tritonbulk.bottleneck import Load
from tritonbulk.cli.bench import command as bench_command
from tritonbulk.cli.bench_view import SweepView
from tritonbulk.cli.score import command as score_command
from tritonbulk.errors import InputError, OptionError
from tritonbulk.source import open_source
from tritonbulk.telemetry.logs import configure_logs

BASE = Variant(1, 0, 4096, "1")
SPACE = Space((64, 256), (1, 4, 16), BASE)
LOAD = Load(0.1, 0.1, 0.1, 0.3, 0.1, 1.0, 0.97, 10.0, 5.0, 5.0)


def test_every_round_runs_every_cell_once_in_an_order_of_its_own():
    rounds = grid_rounds(SPACE, 3, (), seed=0)
    cells = [[step.setting for step in each] for each in rounds]
    assert set(Counter(chain(*cells)).values()) == {3}
    assert all(len(set(each)) == 6 for each in cells)
    assert len({tuple(each) for each in cells}) > 1
    assert rounds == grid_rounds(SPACE, 3, (), seed=0), "the seed fixes the order"


def test_a_grid_goes_on_with_what_is_missing():
    (first, *_), *_ = grid_rounds(SPACE, 2, (), seed=0)
    done = [Trial(first.setting, 0, "grid")]
    left = grid_rounds(SPACE, 2, done, seed=0)
    assert [len(each) for each in left] == [5, 6]
    assert first.setting not in {step.setting for step in left[0]}


def test_the_server_is_set_anew_once_a_round_and_variant():
    space = replace(SPACE, instances=(1, 2), queue_delays_us=(0, 1000))
    (steps,) = grid_rounds(space, 1, (), seed=1)
    variants = [step.setting.variant for step in interleave(steps, 5)]
    changes = sum(a != b for a, b in pairwise(variants))
    assert changes == len(set(variants)) - 1 == 3


def test_trials_use_the_rows_that_the_source_options_choose(tmp_path):
    (tmp_path / "rows.txt").write_text("a,b\n" + "".join(f"{row},x\n" for row in range(9)))
    source = open_source([str(tmp_path / "rows.txt")], "csv", ["a"], "a > 2")
    sliced = lay_out(source, 10, 6, tmp_path)
    assert sliced.schema.names == ["a"]
    rows = [value for _, rows in sliced.read(100, ["a"]) for value in rows["a"].to_pylist()]
    assert rows == [3, 4, 5] * 4


class CountingFiles:
    """A file system that counts what is opened."""

    opened = 0

    def open_input_file(self, path):
        self.opened += 1
        return LocalFileSystem().open_input_file(path)


def test_few_rows_that_pass_a_filter_are_found_once_and_repeated(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": range(1000)}), path, row_group_size=100)
    source = open_source([str(path)], where="a in (5, 995)")
    files = CountingFiles()
    counted = replace(source.files[0], filesystem=files)
    sliced = lay_out(replace(source, files=(counted,)), 100, None, tmp_path)
    assert files.opened == 1
    read = [value for _, rows in sliced.read(1000, ["a"]) for value in rows["a"].to_pylist()]
    assert read == [5, 995] * 50
    assert pq.read_metadata(tmp_path / "rows.parquet").num_row_groups == 1


def test_rows_that_pass_a_filter_are_not_looked_for_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr("tritonbulk.bench.slice.READ_ROWS_MAX", 10)
    (tmp_path / "a.csv").write_text("a\n" + "".join(f"{row}\n" for row in range(30)))
    source = open_source([str(tmp_path / "a.csv")], where="a == 15")
    with pytest.raises(InputError, match=r"none of the first 10 rows of .*a\.csv passes --where"):
        lay_out(source, 4, None, tmp_path)
    assert lay_out(source, 4, 16, tmp_path).rows == 4, "a limit says how far to look"
    (tmp_path / "b.csv").write_text("a\n")
    with pytest.raises(InputError, match=r"b\.csv has no rows to measure with"):
        lay_out(open_source([str(tmp_path / "b.csv")]), 4, None, tmp_path)


def test_score_and_bench_take_the_same_options_of_a_source():
    taken = [{option.name for option in each.params} for each in (bench_command, score_command)]
    assert taken[0] & taken[1] >= {"input_format", "columns", "where", "limit", "keep", "model"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_rows": (4, 0)}, "--batch-rows"),
        ({"in_flight": (0,)}, "--in-flight"),
        ({"instances": (0,)}, "--instances"),
        ({"queue_delays_us": (-1,)}, "--queue-delay"),
        ({"trial_s": 0.0}, "--trial-seconds"),
        ({"budget_s": float("nan")}, "--budget"),
        ({"budget_s": 1e6}, "at most a day"),
        ({"price_per_hour": -1.0}, "--price-per-hour"),
        ({"repeats": 0}, "--repeats"),
    ],
)
def test_options_without_a_meaning_are_refused(wrong, message, tmp_path):
    with pytest.raises(OptionError, match=message):
        BenchOptions(tmp_path / "raw", **wrong)


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


def split(*executed, queue_ms=1.0):
    batches = tuple(Executed(rows, count, ms) for rows, count, ms in executed)
    return ServerSplit(100.0, queue_ms, 0.1, 5.0, 0.1, batches)


def trial(setting, rate, **given):
    defaults = {"rows": int(rate * 2), "seconds": 2.0, "rows_per_second": rate, "is_steady": True,
                "cpu_s_client": 0.5, "in_flight_little": float(setting.in_flight),
                "load": LOAD, "bound_by": "server compute"}  # fmt: skip
    return Trial(setting, 0, "test", **{**defaults, **given})


def test_a_cell_has_the_median_of_its_trials_and_forgets_none():
    one, other = Setting(64, 1, BASE), Setting(256, 1, BASE)
    splits = [split((64, 1, 3.0), queue_ms=q) for q in (1.0, 9.0, 2.0)]
    trials = [
        trial(other, 500.0),
        *(trial(one, rate, server=s) for rate, s in zip((100, 300, 110), splits, strict=True)),
    ]
    first, second = summarize(trials)
    assert (first.setting, first.trials, first.rows_per_second.value) == (one, 3, 110)
    assert first.rows_per_second.low == 100
    assert first.rows_per_second.high == 300
    assert first.cpu_s_client_per_mrow == pytest.approx(0.5 / 220 * 1e6)
    assert first.server is not None
    assert first.server.queue_ms == 2.0
    assert first.server.executed == (Executed(64, 3, 3.0),)
    assert (second.rows_per_second.value, second.server) == (500, None)


@pytest.mark.parametrize(
    ("given", "label"),
    [
        ({"noise": Noise(0.3, 0.0)}, "noisy"),
        ({"noise": Noise(0.1, 0.2)}, "noisy"),
        ({"is_steady": False}, "unsteady"),
        ({"in_flight_little": 3.0}, "starving"),
        ({"requests_failed": 1}, "failed"),
        ({"rows_failed": 1}, "failed"),
    ],
)
def test_a_cell_says_what_speaks_against_it(given, label):
    setting = Setting(64, 4, BASE)
    (sound,) = summarize([trial(setting, 100.0)])
    assert sound.labels == ()
    (doubted,) = summarize([trial(setting, 100.0, **given), trial(setting, 100.0)])
    assert doubted.labels == (label,)
    (once,) = summarize([trial(setting, 100.0, **given), *[trial(setting, 100.0)] * 2])
    assert once.labels == ()


def test_the_cost_of_a_batch_comes_from_sound_trials_with_the_fewest_instances():
    setting, two = Setting(64, 1, BASE), Setting(64, 2, replace(BASE, instances=2))
    trials = [
        trial(setting, 1.0, server=split((64, 5, 11.2), (256, 5, 20.8))),
        trial(setting, 1.0, server=split((4096, 5, 0.1)), requests_failed=5),
        trial(two, 1.0, server=split((64, 5, 22.4), (256, 5, 41.6))),
    ]
    fit = fit_of(trials)
    assert fit is not None
    assert (fit.a_ms, fit.b_ms_per_row) == pytest.approx((8.0, 0.05))


def test_the_knee_is_the_cheapest_of_those_that_are_nearly_as_fast():
    rates = {(1024, 2): 99.0, (4096, 2): 100.0, (4096, 8): 99.9, (64, 1): 50.0}
    trials = [trial(Setting(*cell, BASE), rate) for cell, rate in rates.items()]
    trials.append(trial(Setting(256, 1, replace(BASE, instances=2)), 99.5))
    trials.append(trial(Setting(512, 1, BASE), 200.0, requests_failed=3))
    knee = knee_of(summarize(trials), BASE)
    assert knee is not None
    assert knee.setting == Setting(1024, 2, BASE)


def test_a_verdict_has_reasons_gains_costs_and_the_time_of_the_whole_file():
    variant = replace(BASE, instances=2)
    trials = [
        trial(Setting(rows, width, used), rate * noise, server=split((rows, 5, ms)))
        for rows, width, used, rate, ms in (
            (64, 4, BASE, 500.0, 11.2),
            (1024, 4, BASE, 1000.0, 59.2),
            (1024, 4, variant, 2000.0, 59.2),
        )
        for noise in (0.99, 1.0, 1.01)
    ]
    verdict = judge(trials, BASE, price_per_hour=3.6, file_rows=10_000)
    assert verdict is not None
    assert verdict.setting == Setting(1024, 4, variant)
    assert verdict.bound_by == "compute"
    assert verdict.cost_per_million_rows == pytest.approx(0.5)
    assert verdict.file_seconds == pytest.approx(5.0)
    advice = {each.name: each for each in verdict.advice}
    assert set(advice) == {
        "batch_rows", "in_flight", "instances", "queue_delay_us", "max_batch_size",
    }  # fmt: skip
    instances = advice["instances"]
    assert (instances.value, instances.configured, instances.against) == (2, 1, 1)
    assert instances.gain is not None
    assert instances.gain.value == pytest.approx(2.0)
    assert instances.gain.excludes(1.0)
    assert verdict.gain == instances.gain, "what score does by itself is 1,024 × 4 as configured"
    assert verdict.knee_batch_rows == (1024, 1024)


def test_memory_bounds_a_rate_where_larger_batches_would_be_faster_but_fail():
    trials = [
        trial(Setting(64, 1, BASE), 500.0, server=split((64, 5, 11.2))),
        trial(Setting(256, 1, BASE), 1000.0, server=split((256, 5, 20.8))),
        trial(Setting(1024, 1, BASE), 900.0, requests_failed=7),
    ]
    verdict = judge(trials, BASE)
    assert verdict is not None
    assert (verdict.batch_rows, verdict.bound_by) == (256, "memory")


def test_without_a_sound_trial_there_is_no_verdict():
    assert judge([], BASE) is None
    assert judge([Trial(Setting(1, 1, BASE), 0, "", error="it burns")], BASE) is None


def statistics(requests, rows, executions, ns):
    found = service_pb2.ModelStatistics(inference_count=rows, execution_count=executions)
    found.inference_stats.success.count = requests
    for number, name in enumerate(("queue", "compute_input", "compute_infer", "compute_output")):
        getattr(found.inference_stats, name).ns = (number + 1) * ns
    found.batch_stats.add(batch_size=50).compute_infer.CopyFrom(
        service_pb2.StatisticDuration(count=executions, ns=ns)
    )
    return found


def test_the_server_split_is_the_difference_of_two_readings():
    before = statistics(10, 100, 5, 1_000_000)
    after = statistics(30, 900, 13, 21_000_000)
    after.batch_stats.add(batch_size=7).compute_infer.count = 1
    found = server_split(before, after)
    assert found == ServerSplit(
        100.0, 1.0, 2.0, 3.0, 4.0, (Executed(7, 1, 0.0), Executed(50, 8, 2.5))
    )
    assert server_split(None, after) is server_split(before, None) is None
    assert server_split(before, before) is None


def full_trial():
    return trial(
        Setting(64, 1, BASE), 5.0, server=split((64, 1, 3.0)), noise=Noise(0.1, 0.0),
        gpu=Gpu(0.5, 10),
    )  # fmt: skip


def test_a_trial_survives_its_way_through_json():
    for each in (full_trial(), Trial(Setting(1, 1), 3, "why", error="it burns")):
        assert trial_from_plain(json.loads(json.dumps(trial_to_plain(each)))) == each


def test_a_log_goes_on_after_a_cut_off_line_and_only_with_its_own_sweep(tmp_path):
    log = TrialLog(tmp_path / "t.jsonl")
    assert log.begin({"model": "m"}) is None
    log.ceiling(7.0, 0.5)
    log.add(full_trial(), 1.5)
    with log.path.open("a") as file:
        file.write('{"trial": {"setti')
    saved = log.begin({"model": "m"})
    assert saved is not None
    assert (saved.trials, saved.ceiling, saved.took_s) == ((full_trial(),), 7.0, 2.0)
    log.add(full_trial(), 1.0)
    assert len(read_log(log.path).trials) == 2
    log.finish()
    assert read_log(log.path).is_finished
    assert log.begin({"model": "m"}) is None, "a finished sweep is measured anew"
    assert log.begin({"model": "other"}) is None
    assert read_log(log.path).trials == ()


def test_what_is_no_log_is_refused_with_a_sentence(tmp_path):
    for text in ("", "[]\n", "not json\n", '{"trial": 3}\n'):
        (tmp_path / "x").write_text(text)
        with pytest.raises(InputError, match="does not hold the raw trials"):
            read_log(tmp_path / "x")


METRICS = """
# HELP nv_gpu_utilization GPU utilization rate [0.0 - 1.0)
# TYPE nv_gpu_utilization gauge
nv_gpu_utilization{gpu_uuid="GPU-a"} 0.25
nv_gpu_utilization{gpu_uuid="GPU-b"} 0.75
nv_gpu_memory_used_bytes{gpu_uuid="GPU-a"} 1000000000
nv_gpu_memory_used_bytes{gpu_uuid="GPU-b"} 500
nv_cpu_utilization 0.9
"""


def test_gpus_are_read_from_metrics():
    assert parse_gpu(METRICS) == Gpu(0.75, 1_000_000_500)
    assert parse_gpu("nv_cpu_utilization 0.9\n") is None
    assert parse_gpu("nv_gpu_utilization banana\n") is None


def test_what_a_sweep_says_is_json_where_that_is_asked_for(capfd):
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        configure_logs("json")
        with SweepView() as view:
            view.say("warning: the machine is noisy")
    finally:
        root.handlers[:], root.level = handlers, level
    (line,) = capfd.readouterr().err.splitlines()
    said = json.loads(line)
    assert (said["event"], said["level"]) == ("said", "warning")
    assert said["text"] == "the machine is noisy"
