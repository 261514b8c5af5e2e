"""Profile: what a sweep recommends, and nothing that could be mistaken for one."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tritonbulk.assembly import make_limits
from tritonbulk.errors import InputError, OptionError
from tritonbulk.options import ScoreOptions
from tritonbulk.profile import Profile, read_profile

BEST = Profile("double", batch_rows=256, in_flight=4, rows_per_second=2000.0)


def figures(tmp_path, **changed):
    server = {"instances": 2, "queue_delay_us": 0, "max_batch_size": 512}
    verdict = {"batch_rows": 256, "in_flight": 4, "rows_per_second": 2000.0, **server}
    found = {"model": "double", "configured": server, "verdict": verdict}
    path = tmp_path / "bench.json"
    path.write_text(json.dumps({**found, "trials": [], **changed}))
    return path


def options(**given):
    return ScoreOptions(inputs=("in.parquet",), model="double", out=Path("out"), **given)


def test_the_verdict_is_taken(tmp_path):
    assert read_profile(figures(tmp_path)) == BEST


def test_of_the_server_is_taken_what_the_verdict_has_otherwise_than_configured(tmp_path):
    configured = {"instances": 1, "queue_delay_us": 0, "max_batch_size": 256}
    found = read_profile(figures(tmp_path, configured=configured))
    assert found == replace(BEST, instances=2, max_batch_size=512)
    configured = {"instances": 2, "queue_delay_us": -1, "max_batch_size": 512}
    found = read_profile(figures(tmp_path, configured=configured))
    assert found == replace(BEST, queue_delay_us=0)


@pytest.mark.parametrize(
    "verdict",
    [
        [],
        None,
        {"batch_rows": 0, "in_flight": 1, "rows_per_second": 1, "instances": 2},
        {"batch_rows": "8", "in_flight": 1, "rows_per_second": 1, "instances": 2},
        {"batch_rows": 8, "rows_per_second": 1, "instances": 2},
        {"batch_rows": 8, "in_flight": 1, "rows_per_second": 0, "instances": 2},
    ],
)
def test_other_figures_are_refused_with_a_sentence(verdict, tmp_path):
    with pytest.raises(InputError, match=r"bench\.json does not have the figures"):
        read_profile(figures(tmp_path, verdict=verdict))


def test_a_file_that_is_none_is_refused_with_a_sentence(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_profile(tmp_path / "missing.json")
    for text in ("not json", "[]", "3", "[" * 100_000):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(InputError, match="does not have the figures"):
            read_profile(tmp_path / "bad.json")


def test_it_pins_what_is_automatic():
    assert options().batch_rows_pinned is options().in_flight_pinned is None
    pinned = options(profile=BEST)
    assert (pinned.batch_rows_pinned, pinned.in_flight_pinned) == (256, 4)
    limits = make_limits(pinned, rows=None, request_bytes=1)
    assert limits.window_start == limits.window_max == limits.requests_max == 4
    same = options(profile=BEST, batch_rows=256, in_flight_max=4)
    assert (same.batch_rows_pinned, same.in_flight_pinned) == (256, 4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch_rows": 128}, "--batch-rows is 128, but --profile measured 256"),
        ({"in_flight_max": 8}, "--max-in-flight is 8, but --profile measured 4"),
        ({"profile": Profile("halve", 1, 1, 1.0)}, "measured with model 'halve', not 'double'"),
    ],
)
def test_contradictions_are_refused(given, message):
    with pytest.raises(OptionError, match=message):
        options(**{"profile": BEST, **given})
