"""The benchmark beside peers: what its figures say, and that every contender scores the same."""

import json
import random
import re
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import peers
from benchmarks.agreement import disagreement
from benchmarks.figures import Run, estimate, fastest, latest, paired, runs_of
from benchmarks.goals import GOALS, Goal, judge, peak_growth, speed, speed_of_ideal
from benchmarks.task import Task
from benchmarks.workloads import DURABILITY, GRPC, OURS, QUICK, SHM, WORKLOADS, scaled_rows


def run(workload="mlp", contender="ours", number=0, rate=1000.0, peak_mb=100.0):
    return Run(workload, contender, number, 2000, 2000 / rate, 1.0, 2.0, 0.0, peak_mb)


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=15))
def test_an_interval_holds_the_median_and_stays_within_the_sample(sample):
    found = estimate(sample)
    assert min(sample) <= found.low <= found.value <= found.high <= max(sample)
    assert found == estimate(sample), "the same figures each time they are shown"


def test_an_interval_covers_the_true_median_about_as_often_as_it_says():
    dice = random.Random(4)
    covered = 0
    for _ in range(100):
        found = estimate([dice.gauss(1.0, 0.1) for _ in range(15)])
        covered += found.low <= 1.0 <= found.high
    assert 88 <= covered <= 100
    wide = estimate([dice.gauss(1.0, 0.1) for _ in range(7)])
    narrow = estimate([dice.gauss(1.0, 0.01) for _ in range(7)])
    assert wide.high - wide.low > narrow.high - narrow.low


def test_ratios_are_paired_by_round_so_that_what_slows_a_round_cancels():
    slow = (1.0, 0.1, 0.5)
    ours = [run(number=n, rate=2000 * slow[n]) for n in range(3)]
    theirs = [run(contender="theirs", number=n, rate=1000 * slow[n]) for n in (2, 1, 0)]
    runs = [*ours, *theirs, run(number=3)]
    one, two = runs_of(runs, "mlp", "ours"), runs_of(runs, "mlp", "theirs")
    assert paired(one, two, lambda each: each.rate) == pytest.approx([2, 2, 2])


def test_costs_are_cpu_seconds_a_million_rows():
    assert run().client_cost == pytest.approx(500)
    assert run().server_cost == pytest.approx(1000)


def test_a_repeated_run_replaces_the_first():
    runs = latest([run(rate=1), run(number=1), run(rate=2)])
    assert sorted((each.round, each.rate) for each in runs) == [(0, 2), (1, 1000)]


def test_we_are_compared_with_the_fastest_of_several_and_it_is_named():
    runs = [run(), run(contender="slow", rate=100), run(contender="fast", rate=800)]
    assert fastest(runs, "mlp", ("slow", "fast", "absent")) == "fast"
    assert fastest(runs, "mlp", ("absent",)) is None
    sample, against = speed("mlp", "ours", "slow", "fast", "absent")(runs)
    assert (sample, against) == ([pytest.approx(1.25)], "fast")


@pytest.mark.parametrize(
    ("value", "is_cost", "reached"),
    [(1.2, False, "yes"), (1.4, False, "yes"), (1.1, False, "at least"), (0.9, False, "MISS"),
     (0.9, True, "yes"), (1.1, True, "at least"), (1.3, True, "MISS")],
)  # fmt: skip
def test_a_goal_is_judged_by_its_median(value, is_cost, reached):
    limits = (1.2, 1.0) if is_cost else (1.0, 1.2)
    goal = Goal("any", lambda runs: ([value] * 5, ""), *limits, is_cost=is_cost)
    assert judge(goal, []).reached == reached
    once = Goal("any", lambda runs: ([value], ""), *limits, is_cost=is_cost)
    assert judge(once, []).reached == "too few rounds"


def test_a_goal_without_runs_is_not_measured_and_one_without_limits_is_reported():
    assert {judge(goal, []).reached for goal in GOALS} == {"not measured"}
    outcome = judge(
        Goal("any", speed("mlp", "ours", "theirs")),
        [run(contender=name, number=i) for i in range(5) for name in ("ours", "theirs")],
    )
    assert (outcome.reached, outcome.found.value) == ("reported", 1)


def test_an_accelerator_is_compared_with_one_that_never_waits():
    # 1024 rows take 8 ms + 1024 · 0.05 ms = 59.2 ms; four servers.
    sample, _ = speed_of_ideal("accelerator_4", "ours")([run("accelerator_4", rate=34_594.6)])
    assert sample == [pytest.approx(0.5, abs=1e-4)]


def test_memory_growth_is_large_over_small():
    runs = [run("memory_large", peak_mb=110), run("memory_small", peak_mb=100)]
    sample, _ = peak_growth("memory_large", "memory_small", "ours")(runs)
    assert sample == [pytest.approx(1.1)]


def test_rows_are_scaled_in_whole_batches():
    assert scaled_rows(WORKLOADS["mlp"], 0.5) == 1_048_576
    assert scaled_rows(WORKLOADS["mlp"], 0.0101) == 5 * 4096
    assert scaled_rows(WORKLOADS["image"], 1e-9) == 16


def test_the_quick_run_gives_the_figures_that_are_promised():
    runs = [run(name, contender) for name, those in QUICK.items() for contender in those]
    measured = {goal.name for goal in GOALS if judge(goal, runs).found}
    assert measured >= {
        "mlp_grpc_vs_naive", "mlp_grpc_vs_aio", "mlp_grpc_vs_inproc1", "mlp_grpc_vs_inproc_all",
        "mlp_client_cpu_s_per_mrow_grpc", "accelerator_1_vs_ideal",
    }  # fmt: skip


def test_the_full_run_measures_every_goal():
    runs = [run(w.name, contender) for w in WORKLOADS.values() for contender in w.contenders]
    assert [goal.name for goal in GOALS if not judge(goal, runs).found] == []


def output(folder, ids, values):
    folder.mkdir()
    pq.write_table(pa.table({"id": ids, "y": values}), folder / "part.parquet")
    return folder


@pytest.mark.parametrize(
    ("ids", "values", "said"),
    [
        ([0, 1, 2], [1.0, 2.0, 3.00001], ""),
        ([0, 1, 2], [1.0, 2.0, 3.1], "predictions differ by up to 0.1"),
        ([0, 2, 1], [1.0, 2.0, 3.0], "not in the same order"),
        ([0, 1], [1.0, 2.0], "3 and 2 rows"),
        ([0, 1, 2], [1.0, 2.0, None], "predictions differ"),
        ([0, 1, 2], [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]], "3 and 6 predictions"),
    ],
)
def test_outputs_that_differ_are_noticed(ids, values, said, tmp_path):
    out = output(tmp_path / "ours", [0, 1, 2], np.array([1, 2, 3], np.float32))
    task = Task("ours", "mlp", 3, "", "", (), str(out), "", {})
    found = disagreement(task, output(tmp_path / "theirs", ids, values))
    assert re.search(said, found) if said else found == ""


def test_a_task_goes_through_text_and_shows_no_secret():
    task = Task("ours", "mlp", 3, "f", "r", ("a:1", "b:2"), "o", "p", {"key": "secret"})
    assert Task.from_json(task.to_json()) == task
    assert "secret" not in repr(task)


def test_runs_that_are_kept_are_found_again_without_the_one_that_was_cut_short(tmp_path):
    raw = tmp_path / "runs.jsonl"
    lines = [json.dumps({f: getattr(run(), f) for f in Run.__slots__})] * 2
    raw.write_text(f"{lines[0]}\n{lines[1][:40]}")
    assert peers.read_runs(raw) == [run()]
    assert peers.read_runs(tmp_path / "none.jsonl") == []

    peers.cut_unfinished_line(raw)
    with raw.open("a") as file:
        file.write(f"{lines[1]}\n")
    assert raw.read_text().splitlines() == lines


@pytest.mark.live
@pytest.mark.ci
@pytest.mark.parametrize(
    ("workload", "contenders"),
    [
        ("mlp", WORKLOADS["mlp"].contenders),
        ("flights", (GRPC, "naive", "careful_aio", "in_process_1")),
        ("strings", (GRPC, "naive", "careful_aio", "in_process_1")),
        ("embedding", (SHM, "naive", "careful_aio", "in_process_1")),
        ("image", (GRPC, SHM, "careful_aio", "in_process_1")),
        ("embedding_in_memory", (*OURS, "careful_aio", "in_process_1", "in_process_sessions")),
        ("accelerator_4", (GRPC, "careful_aio")),
        ("durability_embedding", (SHM, *DURABILITY)),
        ("memory_small", ("tritonbulk_cli",)),
    ],
)
def test_every_contender_runs_and_those_that_write_agree(
    workload, contenders, tmp_path, monkeypatch, capsys
):
    # Without perf_analyzer: it is fetched from the network, which a test may not have.
    asked = replace(WORKLOADS[workload], contenders=contenders)
    monkeypatch.setitem(WORKLOADS, workload, asked)
    arguments = ["--workloads", workload, "--scale", "0.001", "--folder", str(tmp_path)]
    peers.main([*arguments, "--rounds", "1"])
    said = capsys.readouterr().out
    json.loads(said.splitlines()[-1])
    runs = peers.read_runs(tmp_path / "full-0.001" / "runs.jsonl")
    skipped = set() if find_spec("pandas") else {"naive"}
    assert {each.contender for each in runs} == set(asked.contenders) - skipped
    assert {each.rows for each in runs} == {scaled_rows(asked, 0.001)}
    assert all(each.server_cpu_seconds > 0 for each in runs if "tritonbulk" in each.contender)
    results = json.loads((tmp_path / "full-0.001" / "results.json").read_text())
    assert len(results["goals"]) == len(GOALS)

    # Going on measures only what is missing: here nothing.
    kept = (tmp_path / "full-0.001" / "runs.jsonl").read_text()
    peers.main([*arguments, "--rounds", "1", "--continue"])
    assert (tmp_path / "full-0.001" / "runs.jsonl").read_text() == kept
