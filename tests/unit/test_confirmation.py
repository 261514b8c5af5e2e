"""Before each commit the servers are asked whether they still serve the model that was planned."""

import asyncio

import pytest

from tritonbulk import session
from tritonbulk.cli.common import size_bytes
from tritonbulk.errors import ModelError, OutageError
from tritonbulk.session import confirmation
from tritonbulk.transport import ServedModel

MODEL = ServedModel("m", "1", 4, (), (), None, "sha256:1")


class Server:
    """An endpoint that gives its answers one after the other, the last one for ever."""

    def __init__(self, *digests):
        self.address = "gpu1:8001"
        self.digests = list(digests)
        self.asked = 0

    async def config_digest(self, model, version):
        assert (model, version) == ("m", "1")
        self.asked += 1
        return self.digests.pop(0) if len(self.digests) > 1 else self.digests[0]


def confirm(*servers, max_outage_s=5.0, answered=None):
    everyone = frozenset(range(len(servers)))
    asked = everyone if answered is None else frozenset(answered)
    return asyncio.run(confirmation(lambda: servers, MODEL, max_outage_s)(asked))


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(session, "CONFIRM_PAUSE_S", 0.001)


def test_whoever_answered_has_to_vouch_for_it(monkeypatch):
    monkeypatch.setattr(session, "CONFIRM_S", 0.05)
    assert confirm(Server("sha256:1"), Server("sha256:1")) == set()
    silent = Server(None)
    assert confirm(Server("sha256:1"), silent) == {1}
    assert silent.asked > 1
    assert confirm(Server("sha256:1"), Server(None), answered=[0]) == set()
    assert confirm(Server("sha256:1"), Server(None, None, "sha256:1")) == set()


def test_one_server_that_says_otherwise_stops_the_run():
    with pytest.raises(
        ModelError, match=r"gpu1:8001 has another model 'm'.*under the same version"
    ):
        confirm(Server("sha256:1"), Server("sha256:2"))


def test_silent_servers_are_asked_again_until_the_outage_is_too_long():
    server = Server(None, None, "sha256:1")
    confirm(server)
    assert server.asked == 3
    with pytest.raises(OutageError, match="still serves model 'm'"):
        confirm(Server(None), max_outage_s=0.05)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1000", 1000), ("100MB", 100_000_000), ("1GiB", 2**30), ("64k", 64_000), ("2 MiB", 2**21)],
)
def test_sizes_are_read_with_their_units(text, size):
    assert size_bytes(text) == size
