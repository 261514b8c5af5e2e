"""Fetch the target's ONNX Runtime, run the published files in it, compare."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import numpy as np

from tritonbulk.errors import ModelError, ParityError, PlatformError
from tritonbulk_export.limits import Limits
from tritonbulk_export.parity.figures import distance, magnitude
from tritonbulk_export.spec import Tensor, Tensors
from tritonbulk_export.targets import Release

FETCH_S = 600.0
RUN_S = 600.0

_PROBE = Path(__file__).with_name("probe.py")


def check_runtime(
    files: Mapping[str, bytes], release: Release, tensors: Tensors, answers: Tensors, limits: Limits
) -> str:
    """Run ``files`` in the ONNX Runtime of ``release`` and return what was found, in a sentence.

    Args:
        files: the model, by path in the version's folder.
        release: of Triton.
        tensors: some rows.
        answers: to them, of the ONNX Runtime installed here.
        limits: of the precision: releases of ONNX Runtime may round differently.

    Raises:
        PlatformError: that release cannot be fetched; says why. A retry may help.
        ModelError: it does not load or run the model; no retry.
        ParityError: it answers otherwise; no retry.
    """
    folder = runtime_folder(release.onnxruntime)
    with TemporaryDirectory(prefix="tritonbulk-") as scratch:
        found = _run(files, release, folder, tensors, Path(scratch))
    for name, expected in answers.items():
        _compare(name, found[name], expected, release, limits)
    return f"loaded and run in ONNX Runtime {release.onnxruntime}, that of Triton {release.tag}"


def runtime_folder(version: str) -> Path:
    """Return a folder with ONNX Runtime ``version`` alone, fetched now if it was not before.

    Raises:
        PlatformError: it cannot be fetched; a retry may help.
    """
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    folder = _cache() / f"onnxruntime-{version}-{python}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(mkdtemp(prefix=".onnxruntime-", dir=folder.parent))
    try:
        _fetch(version, staged)
        # Whoever comes second finds the folder there, with the same content.
        if not folder.is_dir():
            staged.rename(folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return folder


def _fetch(version: str, folder: Path) -> None:
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
        "--no-deps", "--only-binary", ":all:", "--target", str(folder), f"onnxruntime=={version}",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise PlatformError(
            f"ONNX Runtime {version} was not fetched within {FETCH_S:.0f} s; run this again, or "
            "without --check-runtime"
        ) from error
    if done.returncode:
        reason = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "")
        raise PlatformError(
            f"ONNX Runtime {version} cannot be fetched ({reason.strip()}); run this again where it "
            "can be, or without --check-runtime"
        )


def _run(
    files: Mapping[str, bytes], release: Release, folder: Path, tensors: Tensors, scratch: Path
) -> Tensors:
    for name, data in files.items():
        (scratch / name).parent.mkdir(exist_ok=True)
        (scratch / name).write_bytes(data)
    model = scratch / next(name for name in files if name.endswith("model.onnx"))
    plain: dict[str, Any] = {name: _plain(tensor) for name, tensor in tensors.items()}
    np.savez(scratch / "inputs.npz", **plain)
    command = [
        sys.executable, "-I", str(_PROBE), str(folder), release.onnxruntime, str(model),
        str(scratch / "inputs.npz"), str(scratch / "answers.npz"),
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=False,
            env={"ORT_DISABLE_TELEMETRY": "1", "PATH": os.environ.get("PATH", "")},
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(
            f"ONNX Runtime {release.onnxruntime} did not answer {RUN_S:.0f} s; export with a "
            "smaller sample, or without --check-runtime"
        ) from error
    if done.returncode:
        reason = next(iter(done.stderr.strip().splitlines()), f"it ended with {done.returncode}")
        raise ModelError(
            f"ONNX Runtime {release.onnxruntime}, that of Triton {release.tag}, does not run the "
            f"graph: {reason}; export it again with older operators, or for a newer Triton"
        )
    with np.load(scratch / "answers.npz", allow_pickle=False) as answers:
        return dict(answers)


def _compare(name: str, found: Tensor, expected: Tensor, release: Release, limits: Limits) -> None:
    if expected.dtype.kind == "f" and found.shape == expected.shape:
        unit = float(np.sqrt(np.mean(magnitude(expected) ** 2))) if limits.is_scaled else 1.0
        allowed = limits.tolerance.atol * unit + limits.tolerance.rtol * magnitude(expected)
        share = float((distance(found, expected) > allowed).mean())
    else:
        same_shape = found.shape == expected.shape
        share = float((found != _plain(expected)).mean()) if same_shape else 1.0
    if share > limits.exceeding:
        raise ParityError(
            f"output {name!r} is another in ONNX Runtime {release.onnxruntime}, that of Triton "
            f"{release.tag}, for {share:.1%} of its values; choose another --triton, or report it"
        )


def _plain(tensor: Tensor) -> Tensor:
    """Return texts as NumPy's own strings, which need no pickle; all else as it is."""
    if tensor.dtype != object:
        return tensor
    texts = [v.decode() if isinstance(v, bytes) else str(v) for v in tensor.ravel()]
    return np.array(texts, dtype=str).reshape(tensor.shape)


def _cache() -> Path:
    """Return the folder for what is fetched: the one that the embedded server uses too."""
    if own := os.environ.get("TRITONBULK_CACHE"):
        return Path(own)
    if common := os.environ.get("XDG_CACHE_HOME"):
        return Path(common) / "tritonbulk"
    return Path.home() / ".cache" / "tritonbulk"
