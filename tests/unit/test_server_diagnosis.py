from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonbulk.server import diagnosis

HEAD = """\
W1123 07:11:41.042486 6709 pinned_memory_manager.cc:273] "Unable to allocate pinned system memory"
E1123 07:11:41.042620 6709 server.cc:241] "CudaDriverHelper has not been initialized."
"""
TAIL = """\
I1123 07:11:41.264244 6709 model_lifecycle.cc:777] "failed to load 'm'"
| Model | Version | Status      |
| m     | 1       | UNAVAILABLE |
Error: Failed to initialize NVML
error: creating server: Internal - failed to load all models
"""
BROKEN_MODEL = (
    "failed to load 'm' version 1: Internal: InvalidProtobuf: [ONNXRuntimeError] : 7 : "
    "INVALID_PROTOBUF : Load model from /r/m/1/model.onnx failed:Protobuf parsing failed."
)
BAD_FIELD = "Error parsing text-format inference.ModelConfig: 1:17: Expected integer, got: :"
BAD_CONFIG = "Poll failed for model directory 'm': failed to read text proto from /r/m/config.pbtxt"
NO_LIBRARY = (
    "error while loading shared libraries: libpython3.12.so.1.0: cannot open shared object file: "
    "No such file or directory"
)


def logged(file: str, text: str) -> str:
    return f'E1123 07:11:41.264212 6709 {file}] "{text}"'


CASES = {
    "a broken ONNX file, without its Python frames": (
        [logged("model_lifecycle.cc:642", BROKEN_MODEL + r"\n\nAt:\n  /env/o.py(778): f\n")],
        (BROKEN_MODEL,),
    ),
    "a broken configuration, with its line and column": (
        [
            f"[libprotobuf ERROR /tmp/text_format.cc:337] {BAD_FIELD}",
            logged("model_repository_manager.cc:1460", BAD_CONFIG),
        ],
        (BAD_FIELD, BAD_CONFIG),
    ),
    "an instance that fails, once": (
        [
            logged("backend_model.cc:692", "ERROR: Failed to create instance: x"),
            logged("model_lifecycle.cc:642", "failed to load 'm' version 1: x"),
        ],
        ("failed to load 'm' version 1: x",),
    ),
    "a stub that cannot be loaded": (
        [f"/b/triton_python_backend_stub: {NO_LIBRARY}"],
        (NO_LIBRARY,),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_causes_are_tritons_own_words_and_nothing_else(name: str) -> None:
    lines, expected = CASES[name]
    assert diagnosis.causes(HEAD + "\n".join([*lines, TAIL])) == expected


def test_the_summary_is_given_where_there_is_nothing_better() -> None:
    assert diagnosis.causes(HEAD + TAIL) == (diagnosis.SUMMARY,)


def test_the_last_lines_are_given_where_no_error_is_known() -> None:
    assert diagnosis.causes("a\n\nb\nc\nd\n") == ("b", "c", "d")
    assert diagnosis.causes("") == ()


def test_a_taken_port_is_told_from_another_failure() -> None:
    line = (
        'E1123 07:11:53 7016 main.cc:293] "failed to start Metrics service: Unavailable - Socket '
        "'127.0.0.1:18002' already in use \""
    )
    assert diagnosis.port_taken(line)
    assert not diagnosis.port_taken(HEAD + TAIL)


def test_each_started_service_is_counted() -> None:
    log = (
        'I1123 07:05:30 5386 grpc_server.cc:2558] "Started GRPCInferenceService at 127.0.0.1:1"\n'
        'I1123 07:05:30 5386 http_server.cc:362] "Started Metrics Service at 127.0.0.1:2"\n'
    )
    assert [diagnosis.services_started(each) for each in ("", log)] == [0, 2]


def test_a_loader_message_that_is_still_being_written_is_not_taken_for_whole() -> None:
    assert diagnosis.missing_library("x: error while loading shared libraries: ") is None


@given(st.text())
def test_any_log_has_at_most_a_few_causes(log: str) -> None:
    assert len(diagnosis.causes(log)) <= diagnosis.CAUSES_MAX
