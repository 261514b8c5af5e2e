"""A window that yields: it makes room soon, takes it back, and never starves."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritonbulk.dispatch import Dispatch, Limits, Say
from tritonbulk.dispatch.yielding import PAUSE_S_MAX, Yielding
from tritonbulk.errors import OptionError
from tritonbulk.polite import YieldTo, check_priority, parse_yield_to

YIELD = YieldTo(0.99, 0.05)
FELT = st.one_of(st.none(), st.floats(0, 10))


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 64), st.lists(FELT, max_size=200))
def test_it_stays_within_the_inner_window_and_never_pauses_for_long(width, readings):
    yielding, paused = Yielding(YIELD), 0
    for second, mean_s in enumerate(readings):
        before = yielding.limit(width)
        yielding.felt(mean_s, width, float(second))
        assert 0 <= yielding.limit(width) <= width
        if YIELD.estimate_s(mean_s or 0) > YIELD.limit_s and before:
            assert yielding.limit(width) <= before // 2
        if mean_s is None:
            assert yielding.limit(width) >= min(before + 1, width)
        paused = 0 if yielding.limit(width) else paused + 1
        assert paused <= PAUSE_S_MAX + 1


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 64), st.floats(0.0005, 0.02), st.integers(1, 8))
def test_it_settles_where_others_do_not_feel_it(width, service_s, instances):
    """A queue whose mean wait grows with what is in flight beyond the instances."""
    yielding = Yielding(YIELD)
    felt = []
    for second in range(300):
        mean_s = max(yielding.limit(width) - instances, 0) * service_s / instances
        yielding.felt(mean_s, width, float(second))
        felt.append((yielding.limit(width), YIELD.estimate_s(mean_s)))
    late = felt[100:]
    over = sum(wait_s > YIELD.limit_s for _, wait_s in late)
    assert over <= len(late) / 4, "over the limit only where it tries for more"
    assert max(limit for limit, _ in late) >= min(width, instances), "what nobody feels is used"


def test_it_takes_all_back_when_others_have_gone():
    yielding = Yielding(YIELD)
    for second in range(10):
        yielding.felt(0.0, 32, float(second))
    assert (yielding.limit(32), yielding.yields(32)) == (32, False)
    yielding.felt(1.0, 32, 10.0)
    assert (yielding.limit(32), yielding.yields(32)) == (0, True)
    for second in range(11, 40):
        yielding.felt(None, 32, float(second))
    assert (yielding.limit(32), yielding.yields(32)) == (32, False)


def test_a_run_that_yields_says_so_once_and_sends_less_to_all_endpoints():
    dispatch = Dispatch(Limits(900.0, 10, yield_to=YIELD), ["a:1", "b:1"])
    for second in range(5):
        assert dispatch.felt(0.0, float(second)) == []
    assert dispatch.window == 8, "four an endpoint"
    (said,) = dispatch.felt(1.0, 5.0)
    assert isinstance(said, Say)
    assert "--yield-to" in said.text
    assert dispatch.window == 0
    assert dispatch.felt(1.0, 6.0) == []
    assert Dispatch(Limits(900.0, 10), ["a:1"]).felt(1.0, 0.0) == [], (
        "unless nobody is to be yielded to"
    )


def test_the_estimate_is_the_exponential_quantile():
    assert YIELD.estimate_s(0.01) == pytest.approx(0.04605, rel=1e-3)
    assert YieldTo(0.5, 1).estimate_s(1.0) == pytest.approx(0.6931, rel=1e-3)


@pytest.mark.parametrize("text", ["p99=50ms", " p99 = 0.05s "])
def test_what_is_asked_is_understood(text):
    assert parse_yield_to(text) == YIELD
    assert str(parse_yield_to(text)) == "p99=50ms"


@pytest.mark.parametrize("text", ["", "99=50ms", "p0=5ms", "p99=0ms", "p99=50", "p100=5ms"])
def test_what_is_not_understood_is_refused(text):
    with pytest.raises(OptionError, match="p99=50ms"):
        parse_yield_to(text)


def test_a_priority_that_changes_nothing_is_said():
    assert check_priority(0, None, "m") is None
    assert check_priority(2, 2, "m") is None
    assert "has no priority levels" in check_priority(2, 0, "m")
    assert "does not tell" in check_priority(2, None, "m")
    with pytest.raises(OptionError, match="has 2 levels; give 1"):
        check_priority(3, 2, "m")
