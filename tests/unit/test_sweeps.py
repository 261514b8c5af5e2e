"""The scripts behind the figures of bench: what they take for the truth, and what they draw."""

import random

import pytest

from benchmarks.sweeps import ACCELERATOR, REPEATS, deploy, drawn, known
from tests.unit.test_bench_compare import sweep
from tritonbulk.bench import configuration
from tritonbulk.bench.setting import Variant


def test_the_optimum_is_that_of_the_configured_curve():
    found = known(ACCELERATOR / "accelerator" / "config.pbtxt")
    assert (found.base_ms, found.row_ms, found.concurrency) == (8.0, 0.05, 2)
    assert (found.memory_rows, found.max_batch_size) == (4000, 4096)
    assert found.best_rows_s == pytest.approx(2 * 4000 / 0.208)


def test_what_is_measured_again_is_the_verdict(tmp_path):
    configured = {"instances": 1, "queue_delay_us": 0, "max_batch_size": 4096, "version": "1"}
    verdict = {**configured, "instances": 2, "max_batch_size": 3840, "batch_rows": 3840}
    deploy(tmp_path / "models", verdict, configured)
    path = tmp_path / "models" / "accelerator" / "config.pbtxt"
    config = configuration.parse_text(path.read_text(), path.name)
    assert configuration.variant_of(config, "1") == Variant(2, 0, 3840, "1")
    assert known(path).memory_rows == 4000


def test_drawn_sweeps_have_no_round_in_common():
    trials = tuple(sweep(1, repeats=12))
    first, second = drawn(trials, 2, random.Random(0))
    rounds = [{trial.round for trial in each} for each in (first, second)]
    assert [len(each) for each in rounds] == [REPEATS, REPEATS]
    assert not rounds[0] & rounds[1]
