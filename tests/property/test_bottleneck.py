"""Bottleneck: what holds for any figures."""

from dataclasses import fields

from hypothesis import given
from hypothesis import strategies as st

from tritonbulk.bottleneck import SATURATED_SHARE, StageSeconds, describe, find_bottleneck
from tritonbulk.server_statistics import ServerSeconds

seconds = st.floats(0, 100)
counts = st.integers(0, 10_000)
stages = st.builds(StageSeconds, *[seconds for _ in fields(StageSeconds)[:-1]], requests=counts)
servers = st.none() | st.builds(
    ServerSeconds, *[counts] * 3, *[seconds] * 3, instances=st.integers(0, 8)
)


@given(stages, servers)
def test_shares_are_shares_and_a_busier_stage_is_never_passed_over(measured, server):
    found = find_bottleneck(measured, server)
    assert (found is None) == (measured.requests == 0)
    if found is None:
        return
    load = found.load
    shares = (load.read, load.loop, load.write, load.instances or 0.0)
    assert all(0 <= share <= 1 for share in (*shares, load.encode, load.decode, load.under_way))
    assert found.is_saturated == (max(shares) >= SATURATED_SHARE)
    assert describe(found).startswith(found.stage)
    if found.is_saturated:
        owner = {"read": load.read, "write": load.write, "server compute": load.instances}
        assert owner.get(found.stage, load.loop) == max(shares)


@given(stages)
def test_without_the_servers_word_nothing_is_said_of_it(measured):
    found = find_bottleneck(measured, None)
    assert found is None or found.stage not in ("server queue", "server compute")
