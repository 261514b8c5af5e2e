"""How servers are reached: what is refused before anything is sent, and what is warned of."""

import pytest

from tritonbulk.access import PLAIN, Access
from tritonbulk.cli.common import parse_access
from tritonbulk.errors import OptionError
from tritonbulk.options import ScoreOptions
from tritonbulk.redaction import Secret
from tritonbulk.risks import risks
from tritonbulk.transport.tls import channel_credentials

NOTHING = {
    "tls": False, "tls_ca": None, "tls_cert": None, "tls_key": None, "tls_server_name": None,
    "plain_headers": (), "variable_headers": (), "file_headers": (),
}  # fmt: skip


def parse(**given):
    return parse_access({**NOTHING, **given})


def test_headers_come_from_the_command_line_variables_and_files(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "canary-env")
    (tmp_path / "key").write_text("canary-file\n")
    access = parse(
        plain_headers=("X-Team=bulk=1",),
        variable_headers=("authorization=MY_TOKEN",),
        file_headers=(f"triton-grpc-protocol-infer={tmp_path / 'key'}",),
    )
    assert access.metadata() == (
        ("x-team", "bulk=1"),
        ("authorization", "canary-env"),
        ("triton-grpc-protocol-infer", "canary-file"),
    )
    assert access.has_secrets
    assert "canary" not in repr(access)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"plain_headers": ("authorization=canary-x",)}, "process list"),
        ({"plain_headers": ("triton-grpc-protocol-a=canary-x",)}, "--header-env"),
        ({"plain_headers": ("novalue",)}, "NAME="),
        ({"plain_headers": ("a b=c",)}, "no name of a header"),
        ({"plain_headers": ("grpc-timeout=1S",)}, "gRPC's own"),
        ({"plain_headers": ("trace-bin=c",)}, "gRPC's own"),
        ({"plain_headers": ("a=1", "A=2")}, "twice"),
        ({"plain_headers": ("a=line\nend",)}, "no header can hold"),
        ({"variable_headers": ("a=TRITONBULK_UNSET",)}, "TRITONBULK_UNSET is not set"),
        ({"file_headers": ("a=/no/such/file",)}, "cannot be read"),
        ({"file_headers": ("a=/dev/zero",)}, "--header-file a: /dev/zero holds more than 16 KiB"),
        ({"tls_cert": "c.pem"}, "belong together"),
    ],
)
def test_what_cannot_be_sent_is_refused_without_being_quoted(given, message):
    with pytest.raises(OptionError, match=message) as caught:
        parse(**given)
    assert "canary" not in str(caught.value)


def test_plain_text_under_a_secret_name_becomes_a_secret():
    access = Access(headers={"authorization": "canary-plain", "x-team": "bulk"})
    assert isinstance(access.headers["authorization"], Secret)
    assert access.headers["x-team"] == "bulk"


def test_access_is_for_endpoints():
    with pytest.raises(OptionError, match="embedded one needs none"):
        ScoreOptions(inputs=("a",), model="m", out="o", access=Access(tls=True))
    ScoreOptions(inputs=("a",), model="m", out="o", access=PLAIN)


def test_files_of_tls_are_checked_before_anything_is_sent(tmp_path):
    (tmp_path / "no.pem").write_text("hello")
    (tmp_path / "locked.pem").write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    for access, message in (
        (Access(tls_ca=tmp_path / "gone.pem"), "--tls-ca .* cannot be read"),
        (Access(tls_ca="/dev/zero"), "--tls-ca /dev/zero holds more than 4 MiB"),
        (Access(tls_cert="/dev/zero", tls_key=tmp_path / "no.pem"), "--tls-cert .* 4 MiB"),
        (Access(tls_cert=tmp_path / "no.pem", tls_key="/dev/zero"), "--tls-key .* 4 MiB"),
        (Access(tls_ca=tmp_path / "no.pem"), "--tls-ca .* is not certificates in PEM"),
        (Access(tls_cert=tmp_path / "no.pem", tls_key=tmp_path / "locked.pem"), "encrypted"),
        (Access(tls_cert=tmp_path / "no.pem", tls_key=tmp_path / "no.pem"), "--tls-cert .* is not"),
    ):
        with pytest.raises(OptionError, match=message):
            channel_credentials(access)
    assert channel_credentials(PLAIN) is None


SECRET = Access(headers={"authorization": "canary-of-risks"})


@pytest.mark.parametrize(
    ("access", "address", "server", "said"),
    [
        (PLAIN, "gpu1:8001", ("triton", "2.71.0"), None),
        (PLAIN, "gpu1:8001", ("triton", "2.70.9"), "below 2.71.0"),
        (PLAIN, "gpu1:8001", ("triton", "2.51.0"), "known vulnerabilities"),
        (PLAIN, "127.0.0.1:8001", ("triton", "2.51.0"), None),
        (PLAIN, "127.0.0.1:8001", ("triton", "2.60.0"), "known vulnerabilities"),
        (PLAIN, "gpu1:8001", ("mlserver", "1.7.1"), None),
        (PLAIN, "gpu1:8001", ("triton", "main"), None),
        (PLAIN, "gpu1:8001", None, None),
        (SECRET, "gpu1:8001", None, "unencrypted"),
        (SECRET, "localhost:8001", None, None),
        (Access(tls=True, headers=SECRET.headers), "gpu1:8001", None, None),
    ],
)
def test_old_servers_and_open_secrets_are_warned_of(access, address, server, said):
    found = risks(access, [address], [server])
    assert len(found) == (said is not None)
    if said:
        assert said in found[0]
        assert "canary" not in found[0]


def test_many_old_servers_are_one_warning():
    (found,) = risks(PLAIN, ["a:1", "b:1", "c:1"], [("triton", "2.60.0")] * 3)
    assert "a:1 (2.60.0) and 2 more" in found
