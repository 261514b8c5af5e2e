"""Names that stand for several servers, servers that come and go, and what people are told."""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from tritonbulk import fleet as fleet_module
from tritonbulk.contract import Contract, InputTensor, datatype
from tritonbulk.driver.announce import Announcer
from tritonbulk.errors import OptionError
from tritonbulk.events import EndpointChanged
from tritonbulk.fleet import Fleet
from tritonbulk.options import ScoreOptions
from tritonbulk.pipeline import Joined, Left
from tritonbulk.transport import ServedModel, Target, is_name, mixture, resolve
from tritonbulk.transport.sameness import difference


def test_a_name_stands_for_each_of_its_addresses():
    assert asyncio.run(resolve("gpu1:8001")) == (Target("gpu1:8001", "gpu1:8001"),)
    socket = "unix:/run/triton"
    assert asyncio.run(resolve(socket)) == (Target(socket, socket),)
    name = "dns:///localhost:8001"
    found = asyncio.run(resolve(name))
    assert Target("127.0.0.1:8001", name, "localhost") in found
    assert asyncio.run(resolve("dns:///no-such-name.invalid:8001")) == ()
    assert is_name(name)
    assert not is_name("gpu1:8001")


@pytest.mark.parametrize("endpoint", ["dns:///triton", "dns:triton", "triton"])
def test_an_endpoint_without_a_port_is_refused(endpoint):
    with pytest.raises(OptionError, match="--endpoint"):
        ScoreOptions(inputs=("a.parquet",), model="m", out="out", endpoints=(endpoint,))


class Connection:
    """An endpoint that only has a target."""

    def __init__(self, target):
        self.target = target
        self.address = target.address

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass


def test_servers_come_and_go_with_their_name(monkeypatch):
    name = "dns:///pods:8001"
    targets = {each: Target(f"10.0.0.{each}:8001", name, "pods") for each in "123"}
    answers = ["12", "12", "23", "", "23"]

    async def resolved(_):
        return tuple(targets[each] for each in (answers.pop(0) if answers else "23"))

    monkeypatch.setattr(fleet_module, "resolve", resolved)
    monkeypatch.setattr(fleet_module, "RESOLVE_S", 0.001)

    async def follow():
        async with contextlib.AsyncExitStack() as stack:

            async def opened(endpoint, _):
                return endpoint

            first = [Connection(targets["1"]), Connection(targets["2"])]
            fleet = Fleet([name], first, None, Connection, opened, None, stack)
            changes = []
            async for change in fleet.changes():
                changes.append(change)
                if len(changes) == 2:
                    break
            for _ in range(3):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(anext(fleet.changes()), 0.05)
            return changes, [each.address for each in fleet.endpoints]

    changes, addresses = asyncio.run(follow())
    joined, left = changes
    assert isinstance(joined, Joined)
    assert joined.transport.address == "10.0.0.3:8001"
    assert left == Left(0)
    assert addresses == ["10.0.0.1:8001", "10.0.0.2:8001", "10.0.0.3:8001"]


def test_a_server_that_was_not_ready_at_the_start_is_taken_up_later():
    async def follow():
        async with contextlib.AsyncExitStack() as stack:

            async def opened(endpoint, _):
                return endpoint

            ready = [Connection(Target("a:1", "a:1"))]
            fleet = Fleet(["a:1", "b:1"], ready, None, Connection, opened, None, stack)
            return [change async for change in fleet.changes()]

    (joined,) = asyncio.run(follow())
    assert joined.transport.address == "b:1"


def test_people_are_told_what_lasts_and_no_more():
    said = []
    told = Announcer(said.append, 900.0)
    told.changed(EndpointChanged("a:1", "resting", "UNAVAILABLE: Socket closed"), 10.0)
    told.tick(0.5, "last word", 10.5)
    told.changed(EndpointChanged("a:1", "up", ""), 10.6)
    assert said == [], "what lasts less than a second is not worth a line"
    told.changed(EndpointChanged("a:1", "resting", "INTERNAL: Stub is not healthy"), 20.0)
    told.changed(EndpointChanged("a:1", "probing", "INTERNAL: Stub is not healthy"), 20.5)
    for second in range(21, 86):
        told.tick(second - 20.0, "last word of a:1: it is sick", float(second))
    told.changed(EndpointChanged("a:1", "up", ""), 86.0)
    assert said[0].startswith("a:1 gets no requests for now (INTERNAL: Stub is not healthy): the")
    assert "restart the server" in said[0]
    assert (
        said[1] == "no row was scored for 30 s (last word of a:1: it is sick); giving up in 870 s"
    )
    assert said[2].startswith("no row was scored for 60 s")
    assert said[3] == "a:1 is back after 66.0 s"
    assert len(said) == 4


def test_nobody_is_told_to_mend_a_server_that_mends_itself():
    said = []
    told = Announcer(said.append, 900.0, heals=True)
    told.changed(EndpointChanged("a:1", "resting", "INTERNAL: Stub is not healthy"), 0.0)
    told.tick(0.0, "", 2.0)
    assert said == ["a:1 gets no requests for now (INTERNAL: Stub is not healthy)"]


def test_a_mixed_fleet_is_told_who_serves_what():
    x = InputTensor("x", datatype("FP32"), (3,))
    wide = replace(x, datatype=datatype("FP64"))
    one = ServedModel("m", "1", 64, (x,), (), None, "sha256:11")
    two = replace(one, version="2", inputs=(wide,))
    assert mixture({"a:1": one, "b:1": replace(one, instances=4)}) == ""
    assert mixture({"a:1": one, "b:1": two, "c:1": one}) == (
        "version 1, input 'x' FP32[3] at a:1, c:1; version 2, input 'x' FP64[3] at b:1"
    )
    added = replace(one, inputs=(x, replace(x, name="mask")))
    assert mixture({"a:1": one, "b:1": added}) == (
        "input 'mask' none at a:1; input 'mask' FP32[3] at b:1"
    )
    changed = replace(one, config_digest="sha256:22")
    assert difference(changed, one) == "configuration 22, not configuration 11"
    contract = Contract("m", "sha256:0", (x,), ())
    assert mixture({"a:1": one, "b:1": replace(one, contract=contract)}).startswith(
        "contract none at a:1; contract "
    )


def test_no_sentence_quotes_what_the_model_said_of_rows():
    said = []
    told = Announcer(said.append, 900.0)
    reason = "INTERNAL: ValueError: cannot score 'Jane Doe': what is wrong"
    told.changed(EndpointChanged("a:1", "resting", reason, quotes_data=True), 0.0)
    told.tick(2.0, "", 2.0)
    assert said == ["a:1 gets no requests for now (INTERNAL)"]
