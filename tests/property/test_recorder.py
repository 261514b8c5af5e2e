"""A record of a run is complete, nearly exact, and as small after a year as after a minute."""

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonbulk.events import EndpointChanged, RequestEnded, RowsFailed
from tritonbulk.report import recorder
from tritonbulk.report.recorder import BINS, OTHERS, Latencies, Recorder

ended = st.builds(
    RequestEnded,
    st.sampled_from(["a:1", "b:1"]),
    st.sampled_from(["ok", "busy", "lost"]),
    st.integers(1, 5000),
    st.floats(0, 1e4),
    st.integers(0, 64),
    st.integers(1, 64),
)


@given(st.lists(st.tuples(ended, st.floats(0, 1e7)), max_size=60))
def test_nothing_that_was_told_is_missing(told):
    record = Recorder()
    for event, at_s in told:
        record.note(event, at_s)
    answers = [event for event, _ in told if event.outcome == "ok"]
    assert record.rows == sum(event.rows for event in answers)
    assert sum(each.rows for each in record.endpoints.values()) == record.rows
    assert sum(record.outcomes().values()) == len(told)
    assert sum(each.failed for each in record.bins) == len(told) - len(answers)
    assert record.latencies.total == len(answers)
    assert sum(each.latencies.total for each in record.bins) == len(answers)
    assert len(record.bins) <= BINS
    if told:
        assert len(record.bins) * record.bin_s >= max(at_s for _, at_s in told)


@given(st.lists(st.floats(2e-4, 500), min_size=1, max_size=200), st.floats(0.01, 1))
def test_percentiles_are_within_five_per_cent(seconds, share):
    latencies = Latencies()
    for each in seconds:
        latencies.add(each)
    found = latencies.quantile(share)
    ranked = sorted(seconds)
    wanted = ranked[max(-(-int(share * len(ranked) * 1e6) // 1_000_000) - 1, 0)]
    above = ranked[min(ranked.index(wanted) + 1, len(ranked) - 1)]
    assert wanted * 0.95 <= found <= above * 1.05


def test_without_latencies_there_are_no_percentiles():
    assert Latencies().quantile(0.5) is None


def test_a_year_of_endless_failures_takes_no_more_room():
    record = Recorder()
    for number in range(3000):
        address = f"gpu{number}:8001"
        at_s = number * 1e4
        record.note(RequestEnded(address, "ok", 1, 0.01, 1, 1), at_s)
        record.note(EndpointChanged(address, "resting", "x" * 10_000), at_s)
        record.note(RowsFailed(2, 13, f"error {number} " + "x" * 10_000), at_s)
    assert len(record.bins) <= BINS
    assert len(record.endpoints) == recorder.ENDPOINTS_MAX + 1
    assert len(record.changes) == recorder.CHANGES_MAX
    assert max(len(change.reason) for _, change in record.changes) <= recorder.REASON_LETTERS
    assert record.changes_left_out == 3000 - recorder.CHANGES_MAX
    assert len(record.reasons) == recorder.REASONS_MAX + 1
    assert sum(reason.rows for reason in record.reasons.values()) == 6000
    assert max(len(text) for _, text in record.reasons) <= recorder.REASON_LETTERS
    assert record.endpoints[OTHERS].rows == 3000 - recorder.ENDPOINTS_MAX


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_the_middle_of_many_is_where_it_is(share):
    latencies, draw = Latencies(), random.Random(3)
    seconds = [draw.lognormvariate(-4, 0.5) for _ in range(20_000)]
    for each in seconds:
        latencies.add(each)
    assert latencies.quantile(share) == pytest.approx(
        sorted(seconds)[int(share * 20_000)], rel=0.03
    )


def test_taking_an_event_in_costs_microseconds():
    record = Recorder()
    event = RequestEnded("gpu1:8001", "ok", 4096, 0.01, 16, 16)
    best_s = float("inf")
    for _ in range(5):
        began_s = time.perf_counter()
        for number in range(2000):
            record.note(event, number * 0.01)
        best_s = min(best_s, (time.perf_counter() - began_s) / 2000)
    assert best_s < 100e-6


def test_an_endpoint_that_is_asked_again_and_again_has_changed_once():
    record = Recorder()
    record.note(EndpointChanged("gpu1:8001", "resting", "refused"), 1.0)
    for number in range(1000):
        record.note(EndpointChanged("gpu1:8001", "probing", "refused"), 2.0 + number)
        record.note(EndpointChanged("gpu1:8001", "resting", "refused"), 2.5 + number)
    record.note(EndpointChanged("gpu1:8001", "up", ""), 2000.0)
    assert [(at_s, change.state) for at_s, change in record.changes] == [
        (1, "resting"),
        (2000, "up"),
    ]
    assert record.endpoints["gpu1:8001"].probes == 1000
