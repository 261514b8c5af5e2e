"""What a model configuration asks of ONNX Runtime, read and checked. Pure.

Names, values and error texts are those of the official backend (README and source of
triton-inference-server/onnxruntime_backend): ``parameters``, ``optimization.graph.level``,
``optimization.execution_accelerators`` and ``model_operations.op_library_filename``. Unknown
parameters are ignored, as there. Two parameters exist here only:

``tritonbulk.run_rows_max``
    the most rows that go through the model at once where ``max_batch_size`` > 0; 0 = no limit.
``simulate_ms``
    ``"a,b"``: an execution takes at least a + b · rows milliseconds; the real model runs, a sleep
    adds the rest. For trying batching and fleets of servers without an accelerator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ort_signature import LoadError

#: Larger runs fall out of the processor's caches: measured through the server at 4 requests in
#: flight of 4,096 and 16,384 rows, pieces give 1.1 and 1.25 times the rows/s on a dense network
#: (64-256-128-1) and change nothing on 200 trees. Much smaller pieces cost the calls.
RUN_ROWS_MAX = 1024

_SESSION_ENTRIES = ("session.use_device_allocator_for_initializers",)
_RUN_ENTRIES = ("memory.enable_memory_arena_shrinkage",)
_ACCELERATORS = {
    "gpu_execution_accelerator": {"tensorrt", "cuda"},
    "cpu_execution_accelerator": {"openvino"},
}


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of one model instance.

    Attributes:
        graph_level: -1 basic, 1 extended, 2 no optimisation of the graph; anything else: all.
        parallel: whether independent branches of the graph run at the same time.
        intra_op_threads: threads within an operator; 0 = not configured.
        inter_op_threads: threads across operators; 0 = ONNX Runtime's default.
        mem_arena: whether freed memory is kept for reuse; None = ONNX Runtime's default.
        mem_pattern: whether memory is planned from earlier runs; None = ONNX Runtime's default.
        session_entries: session configuration passed through by name.
        run_entries: run configuration passed through by name.
        op_libraries: files of shared libraries with custom operators.
        accelerators: execution accelerators asked for, by name.
        run_rows_max: the most rows in one run; 0 = no limit.
        simulate_ms: (a, b): the least time of an execution is a + b · rows, in milliseconds.
    """

    graph_level: int
    parallel: bool
    intra_op_threads: int
    inter_op_threads: int
    mem_arena: bool | None
    mem_pattern: bool | None
    session_entries: dict[str, str]
    run_entries: dict[str, str]
    op_libraries: tuple[str, ...]
    accelerators: tuple[str, ...]
    run_rows_max: int
    simulate_ms: tuple[float, float]


def read_options(config: dict[str, Any]) -> Options:
    """The options in a configuration (the JSON form that Triton hands to a backend).

    Raises:
        LoadError: a value has no meaning, or an accelerator's name is unknown.
    """
    values = {key: value["string_value"] for key, value in config["parameters"].items()}
    optimization = config.get("optimization", {})
    mode = _integer(values, "execution_mode", 0)
    if mode not in (0, 1):
        raise LoadError(
            "Invalid configuration value provided. Expected values for  execution_mode are 0 or 1 "
            f"but got {mode} ."
        )
    return Options(
        graph_level=int(optimization.get("graph", {}).get("level", 0)),
        parallel=mode == 1,
        intra_op_threads=max(0, _integer(values, "intra_op_thread_count", 0)),
        inter_op_threads=max(0, _integer(values, "inter_op_thread_count", 0)),
        mem_arena=_boolean(values, "enable_mem_arena"),
        mem_pattern=_boolean(values, "enable_mem_pattern"),
        session_entries={key: values[key] for key in _SESSION_ENTRIES if key in values},
        run_entries={key: values[key] for key in _RUN_ENTRIES if key in values},
        op_libraries=tuple(config.get("model_operations", {}).get("op_library_filename", [])),
        accelerators=tuple(_accelerators(optimization.get("execution_accelerators", {}))),
        run_rows_max=max(0, _integer(values, "tritonbulk.run_rows_max", RUN_ROWS_MAX)),
        simulate_ms=_simulation(values.get("simulate_ms", "0,0")),
    )


def default_threads(config: dict[str, Any], cores: int) -> int:
    """Threads of one instance if none are configured: its share of the cores, at least 1.

    A lone instance with both of 2 cores gives 1.6 times (trees) and 1.3-1.6 times (dense layers)
    the rows/s of one with a single thread; two instances with one thread each give 1.5-1.9 times.
    """
    instances = sum(int(group["count"]) for group in config["instance_group"])
    return max(1, cores // max(1, instances))


def _accelerators(configured: dict[str, Any]) -> list[str]:
    names = []
    for kind, known in _ACCELERATORS.items():
        for accelerator in configured.get(kind, []):
            name = accelerator["name"]
            if name not in known:
                raise LoadError(f"unknown Execution Accelerator '{name}' is requested")
            names.append(name)
    return names


def _integer(values: dict[str, str], key: str, default: int) -> int:
    try:
        return int(values.get(key, default))
    except ValueError:
        raise LoadError(
            f"parameter '{key}': failed to convert '{values[key]}' to an integer"
        ) from None


def _boolean(values: dict[str, str], key: str) -> bool | None:
    if key not in values:
        return None
    text = values[key].lower()
    if text not in ("0", "1", "false", "true"):
        raise LoadError(f"parameter '{key}': failed to convert '{values[key]}' to boolean")
    return text in ("1", "true")


def _simulation(text: str) -> tuple[float, float]:
    try:
        execution_ms, row_ms = map(float, text.split(","))
    except ValueError:
        raise LoadError(
            f"parameter 'simulate_ms': expected milliseconds 'a,b', got '{text}'"
        ) from None
    return execution_ms, row_ms
