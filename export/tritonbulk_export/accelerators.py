"""Accelerators of Triton's ONNX Runtime backend: the names and keys that it takes, and no others.

From the README and ``src/onnxruntime.cc`` of triton-inference-server/onnxruntime_backend (00fd3e8,
2026-06-29). A key that the TensorRT provider does not list there fails the load; the CUDA provider
takes any option of ONNX Runtime's, of which these are the documented ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_TENSORRT = frozenset(
    {
        "precision_mode",
        "max_workspace_size_bytes",
        "int8_calibration_table_name",
        "int8_use_native_calibration_table",
        "trt_auxiliary_streams",
        "trt_build_heuristics_enable",
        "trt_builder_optimization_level",
        "trt_context_memory_sharing_enable",
        "trt_cuda_graph_enable",
        "trt_dla_core",
        "trt_dla_enable",
        "trt_dump_ep_context_model",
        "trt_dump_subgraphs",
        "trt_engine_cache_enable",
        "trt_engine_cache_path",
        "trt_engine_cache_prefix",
        "trt_ep_context_embed_mode",
        "trt_ep_context_file_path",
        "trt_extra_plugin_lib_paths",
        "trt_force_sequential_engine_build",
        "trt_layer_norm_fp32_fallback",
        "trt_max_partition_iterations",
        "trt_min_subgraph_size",
        "trt_profile_max_shapes",
        "trt_profile_min_shapes",
        "trt_profile_opt_shapes",
        "trt_sparsity_enable",
        "trt_tactic_sources",
        "trt_timing_cache_enable",
        "trt_timing_cache_path",
    }
)
_CUDA = frozenset(
    {
        "arena_extend_strategy",
        "cudnn_conv1d_pad_to_nc1d",
        "cudnn_conv_algo_search",
        "cudnn_conv_use_max_workspace",
        "do_copy_in_default_stream",
        "enable_cuda_graph",
        "enable_skip_layer_norm_strict_mode",
        "gpu_mem_limit",
        "prefer_nhwc",
        "tunable_op_enable",
        "tunable_op_max_tuning_duration_ms",
        "tunable_op_tuning_enable",
        "use_ep_level_unified_stream",
        "use_tf32",
    }
)
_OPENVINO = frozenset(
    {"device_type", "precision", "num_of_threads", "num_streams", "enable_opencl_throttling"}
)

GPU_KEYS: Mapping[str, frozenset[str]] = MappingProxyType({"tensorrt": _TENSORRT, "cuda": _CUDA})
"""Keys by name of a ``gpu_execution_accelerator``."""

CPU_KEYS: Mapping[str, frozenset[str]] = MappingProxyType({"openvino": _OPENVINO})
"""Keys by name of a ``cpu_execution_accelerator``."""

PROFILE_KEYS = ("trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes")
"""Shapes of a TensorRT engine: all three together, for every input of open size."""
