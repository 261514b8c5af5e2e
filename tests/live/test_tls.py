"""TLS, mutual TLS and headers against the real server: right, and each way to be wrong."""

import os
import socket
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tritonbulk
from tests.live.certificates import Authority
from tritonbulk.access import Access
from tritonbulk.errors import AuthError
from tritonbulk.redaction import Secret
from tritonbulk.server.embedded import EmbeddedTriton
from tritonbulk.transport.tls import check_tls

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

ROWS = 500
RESTRICTED = "triton-grpc-protocol-bulk"
CANARY = "canary-7f3a-of-the-restricted-header"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("pki"), "authority")


@pytest.fixture(scope="module")
def guarded(repository, authority):
    """A server that wants a client's certificate, and a header for inference."""
    pair = authority.pair("server")
    flags = [
        "--grpc-use-ssl=true", "--grpc-use-ssl-mutual=true", f"--grpc-server-cert={pair.cert}",
        f"--grpc-server-key={pair.key}", f"--grpc-root-cert={authority.ca}",
        f"--grpc-restricted-protocol=inference:bulk={CANARY}",
    ]  # fmt: skip
    with EmbeddedTriton(repository, models=["wide"], stop_deadline_s=0, flags=flags) as server:
        yield server


@pytest.fixture(scope="module")
def expired(repository, authority):
    """A server whose certificate has expired."""
    pair = authority.pair("expired", is_expired=True)
    flags = [
        "--grpc-use-ssl=true",
        f"--grpc-server-cert={pair.cert}",
        f"--grpc-server-key={pair.key}",
    ]
    with EmbeddedTriton(repository, models=["wide"], stop_deadline_s=0, flags=flags) as server:
        yield server


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({name: np.arange(ROWS, dtype=np.float32) for name in "abcd"}), path)
    return path


def score(rows, endpoint, access):
    return tritonbulk.score(
        rows, model="wide", out=rows.parent / "out", endpoints=[endpoint], access=access,
        input_map=["x=a,b,c,d"], max_outage_s=20, transport="unary",
    )  # fmt: skip


def ours(authority, **more):
    pair = authority.pair("client")
    headers = {RESTRICTED: Secret(CANARY)}
    known = {"tls_ca": authority.ca, "tls_cert": pair.cert, "tls_key": pair.key, "headers": headers}
    return Access(**{**known, **more})


@pytest.mark.parametrize("transport", ["unary", "stream"])
def test_rows_are_scored_over_mutual_tls_with_a_restricted_header(
    transport, guarded, authority, rows
):
    result = tritonbulk.score(
        rows, model="wide", out=rows.parent / "out", endpoints=[guarded.grpc],
        access=ours(authority), input_map=["x=a,b,c,d"], transport=transport,
    )  # fmt: skip
    assert (result.rows_ok, result.transport) == (ROWS, transport)
    y = pq.read_table(rows.parent / "out")["y"].to_pylist()
    assert [row[0] for row in y] == [2.0 * row for row in range(ROWS)]


def wrong_ways(authority, folder):
    stranger = Authority(folder, "stranger")
    foreign, stale = stranger.pair("foreign"), authority.pair("stale", is_expired=True)
    return {
        "plaintext": (Access(headers={}), "speaks TLS and we do not; give --tls-ca"),
        "no certificate": (
            Access(tls_ca=authority.ca), "wants a client certificate .* give --tls-cert"
        ),
        "wrong authority": (ours(authority, tls_ca=stranger.ca), "is refused .* give --tls-ca"),
        "public authorities": (ours(authority, tls_ca=None), "is refused .* give --tls-ca"),
        "foreign certificate": (
            ours(authority, tls_cert=foreign.cert, tls_key=foreign.key), "refuses our certificate"
        ),
        "expired certificate": (
            ours(authority, tls_cert=stale.cert, tls_key=stale.key), "refuses our certificate"
        ),
        "another name": (
            ours(authority, tls_server_name="gpu1.example"), "give --tls-server-name"
        ),
        "no header": (ours(authority, headers={}), "wants a header"),
        "wrong header": (
            ours(authority, headers={RESTRICTED: Secret("canary-wrong")}), "wants a header"
        ),
    }  # fmt: skip


WAYS = [
    "plaintext",
    "no certificate",
    "wrong authority",
    "public authorities",
    "foreign certificate",
    "expired certificate",
    "another name",
    "no header",
    "wrong header",
]


@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_be_refused_says_what_to_do_before_the_first_row(
    way, guarded, authority, rows, tmp_path
):
    access, message = wrong_ways(authority, tmp_path)[way]
    began = time.monotonic()
    with pytest.raises(AuthError, match=message) as caught:
        score(rows, guarded.grpc, access)
    assert time.monotonic() - began < 15, "it waited for what cannot come"
    assert caught.value.exit_code == 2
    assert "canary" not in str(caught.value)
    assert not list((tmp_path / "out").glob("part-*"))


def test_an_expired_server_certificate_is_named_as_such(expired, authority, rows):
    with pytest.raises(AuthError, match=r"expired.*has to renew it"):
        score(rows, expired.grpc, Access(tls_ca=authority.ca))


def test_tls_to_a_server_without_is_named_as_such(triton, authority, rows):
    with pytest.raises(AuthError, match="does not speak TLS"):
        score(rows, triton.grpc, Access(tls_ca=authority.ca))


def test_a_server_that_is_as_it_should_be_is_not_complained_of(guarded, authority, triton):
    check_tls(guarded.grpc, ours(authority))
    check_tls(triton.grpc, Access())
    check_tls("127.0.0.1:1", Access())


def test_the_command_line_takes_the_same_and_shows_no_secret(guarded, authority, rows):
    pair, out = authority.pair("client"), rows.parent / "out"
    words = [
        sys.executable, "-m", "tritonbulk.cli.main", "score", str(rows), "--model", "wide",
        "--out", str(out), "--endpoint", guarded.grpc, "--input-map", "x=a,b,c,d",
        "--tls-ca", str(authority.ca), "--tls-cert", str(pair.cert), "--tls-key", str(pair.key),
        "--header-env", f"{RESTRICTED}=CANARY", "--header", "x-team=bulk",
    ]  # fmt: skip
    done = subprocess.run(
        words, env={**os.environ, "CANARY": CANARY}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert CANARY not in done.stdout + done.stderr
    for path in out.rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path


def test_a_look_at_a_silent_server_ends(authority):
    with socket.create_server(("127.0.0.1", 0)) as server:
        began = time.monotonic()
        check_tls(f"127.0.0.1:{server.getsockname()[1]}", Access(tls_ca=authority.ca))
        assert time.monotonic() - began < 30
