"""The pure half of the transports: which one is taken, where tensors lie, what a request says."""

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from tritonbulk.codec import RawTensor, Request
from tritonbulk.codec.placement import ALIGNMENT_BYTES, place, refer
from tritonbulk.contract import InputTensor, OutputTensor, datatype
from tritonbulk.dispatch import Failure, refusal
from tritonbulk.errors import OptionError
from tritonbulk.options import ScoreOptions
from tritonbulk.scorer_options import is_loopback
from tritonbulk.server import runs
from tritonbulk.transport import choose_carriage
from tritonbulk.transport.region import FOLDER, Region

HERE, THERE = "127.0.0.1:8001", "triton.example:8001"
NARROW = InputTensor("x", datatype("FP32"), (64,))
WIDE = InputTensor("x", datatype("FP32"), (384,))
Y = OutputTensor("y", datatype("FP32"), (1,))


def choose(asked="auto", addresses=(HERE,), tensor=NARROW, outputs=(Y,), rows=1024, share=False):
    return choose_carriage(asked, addresses, [tensor], outputs, rows, may_share=share)


def test_auto_takes_shared_memory_for_large_rows_where_it_is_allowed():
    assert choose(tensor=WIDE, share=True).kind == "shm"
    assert choose(tensor=NARROW, share=True).kind == "unary"
    assert choose(tensor=WIDE, share=False).kind == "unary"
    large_answer = OutputTensor("y", datatype("FP32"), (192,))
    assert choose(tensor=NARROW, outputs=[large_answer], share=True).kind == "shm"


@pytest.mark.parametrize("kind", ["unary", "stream", "shm"])
def test_what_is_asked_for_is_taken(kind):
    assert choose(kind, addresses=[THERE]).kind == kind


def test_slots_hold_a_full_request_and_its_answer_within_the_bound_in_bytes():
    narrow = choose(rows=1024)
    assert narrow.slot_bytes == 1024 * (256 + 4)
    assert narrow.slots == 64
    image = InputTensor("x", datatype("FP32"), (3, 224, 224))
    assert choose(tensor=image, rows=27).slots == 256 * 2**20 // (27 * 602_112 + 128)
    assert choose(tensor=image, rows=27, addresses=[HERE] * 4).slots == 4
    assert choose(tensor=image, rows=1000).slots == 1


def test_an_answer_of_unknown_size_has_no_place_in_a_slot():
    text, free = (
        OutputTensor("t", datatype("BYTES"), (1,)),
        OutputTensor("f", datatype("FP32"), (-1,)),
    )
    assert choose(outputs=[Y, text, free]).slot_bytes == choose(outputs=[Y]).slot_bytes


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:8001", True),
        ("127.8.9.1:1", True),
        ("localhost:8001", True),
        ("[::1]:8001", True),
        ("ipv4:127.0.0.1:8001", True),
        ("dns:///localhost:8001", True),
        ("unix:/run/triton:8001", True),
        ("10.0.0.1:8001", False),
        ("localhost.example:8001", False),
        ("127.0.0.1.example:8001", False),
        ("triton", False),
        ("", False),
    ],
)
def test_a_loopback_address_is_known_by_its_text(address, expected):
    assert is_loopback(address) is expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transport": "pigeon"}, "--transport is 'pigeon'; give one of auto, unary, stream, shm"),
        ({"transport": "shm", "endpoints": (HERE,)}, "add --trust-shared-memory"),
        ({"trust_shared_memory": True, "endpoints": (HERE, THERE)}, f"{THERE} is not a loopback"),
    ],
)
def test_transports_that_cannot_be_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        ScoreOptions(inputs=("in",), model="m", out="out", **options)


def test_shared_memory_needs_no_trust_in_the_embedded_server():
    assert ScoreOptions(inputs=("in",), model="m", out="out", transport="shm").endpoints == ()


def test_only_a_full_queue_is_known_by_its_text():
    text = "[request id: 7] Exceeds maximum queue size"
    assert refusal(text) == Failure(14, "UNAVAILABLE", text)
    assert refusal("Request timeout expired") is not None
    assert refusal("unexpected shape for input 'x'") is None
    assert refusal("") is None


@given(st.lists(st.none() | st.integers(0, 10_000), min_size=1, max_size=6))
def test_tensors_in_a_slot_are_aligned_and_do_not_overlap(sizes):
    offsets, room = place(sizes)
    end = 0
    for offset, size in zip(offsets, sizes, strict=True):
        assert offset % ALIGNMENT_BYTES == 0
        assert offset >= end
        end = offset + (size or 0)
    assert end <= room < end + ALIGNMENT_BYTES


def test_a_request_that_refers_to_a_slot_says_where_everything_is_and_else_the_same():
    plain = service_pb2.ModelInferRequest(model_name="m", model_version="7")
    plain.inputs.add(name="a", datatype="FP32", shape=[2, 10])
    plain.inputs.add(name="b", datatype="INT64", shape=[2, 1])
    plain.outputs.add(name="y")
    plain.outputs.add(name="text")

    header = refer(plain.SerializeToString(), "ring", (80, 16), (8, None), begin=4096)

    request = service_pb2.ModelInferRequest.FromString(header)
    places = [
        (t.parameters["shared_memory_offset"].int64_param,
         t.parameters["shared_memory_byte_size"].int64_param)
        for t in (*request.inputs, request.outputs[0])
    ]  # fmt: skip
    assert places == [(4096, 80), (4096 + 128, 16), (4096 + 192, 8)]
    assert {t.parameters["shared_memory_region"].string_param for t in request.inputs} == {"ring"}
    assert not request.outputs[1].parameters
    for tensor in (*request.inputs, *request.outputs):
        tensor.parameters.clear()
    assert request == plain


def test_columns_are_written_side_by_side_wherever_they_are_wanted():
    columns = tuple(np.arange(3, dtype=np.int32)[:, None] + 10 * i for i in range(2))
    tensor = RawTensor(columns)
    target = np.zeros(tensor.size_bytes + 1, np.uint8)
    tensor.write_to(target[1:])
    expected = np.concatenate(columns, axis=1).tobytes()
    assert target[1:].tobytes() == expected
    assert Request(b"head", (tensor,), ()).to_bytes() == b"head\x3a\x18" + expected


@pytest.fixture
def region():
    with runs.new_run() as run:
        region = Region(run.prefix + "region", slots=3, slot_bytes=5000)
        yield region
        region.close()


def test_slots_are_whole_pages_and_given_out_once(region):
    assert region.slot_bytes == 8192
    slots = [region.take() for _ in range(4)]
    assert sorted(slots[:3]) == [0, 1, 2]
    assert slots[3] is None
    region.view(slots[1], 10, 4)[:] = 7
    assert [int(region.view(slot, 0, 8192).sum()) for slot in slots[:3]] == [0, 28, 0]
    region.give_back(slots[1])
    assert region.take() == slots[1]
    assert region.take() is None


def test_a_region_is_the_users_alone_and_goes(region):
    path = FOLDER / region.name
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_size == region.size_bytes
    region.unlink()
    assert not path.exists()
    region.view(2, 0, 1)[:] = 1  # what is mapped stays


def test_a_region_takes_at_most_half_of_what_is_free():
    state = os.statvfs(FOLDER)
    free = state.f_bavail * state.f_frsize
    with runs.new_run() as run:
        with pytest.raises(OSError, match="no room"):
            Region(run.prefix + "large", slots=1, slot_bytes=free)
        half = Region(run.prefix + "half", slots=100, slot_bytes=free // 10)
        half.close()
    assert half.size_bytes <= free * 0.6


def test_a_name_is_abandoned_once_its_run_is_gone():
    with runs.new_run() as run:
        name = run.prefix + "region"
        assert not runs.is_abandoned(name)
    assert runs.is_abandoned(name)
    assert not runs.is_abandoned("tritonbulk_")
    assert not runs.is_abandoned("somebody_elses")
