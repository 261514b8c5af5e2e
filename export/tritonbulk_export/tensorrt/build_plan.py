"""Build and judge TensorRT plans on a GPU node, inside the server's own container.

Runs by itself on Python's standard library: ``python3 build_plan.py [KIT]``. It reads
``kit.json``, builds one plan for the compute capability of this machine's first GPU, runs it on the
golden rows, and keeps it only if the answers are right. What was built by the same TensorRT for the
same model and options is not built again. Exit codes: 0 a plan stands there, 1 it could not be
built or answers wrongly, 2 wrong use (another TensorRT, no trtexec, no GPU).

Not verified on a GPU.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TRTEXEC_PLACES = ("/usr/src/tensorrt/bin/trtexec", "/opt/tensorrt/bin/trtexec")
BUILD_S = 6 * 3600
CHECK_S = 600
FORMATS = {
    "FP32": "f",
    "FP64": "d",
    "FP16": "e",
    "INT32": "i",
    "INT64": "q",
    "INT8": "b",
    "UINT8": "B",
    "BOOL": "?",
    "INT16": "h",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
}


class KitError(Exception):
    """What went wrong, as a sentence; ``code`` is what the process exits with."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


def main() -> int:
    """Build one plan; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kit", nargs="?", type=Path, default=Path(__file__).parent)
    parser.add_argument("--trtexec", help="where trtexec is, if not in the usual places")
    parser.add_argument("--force", action="store_true", help="build even what is there")
    arguments = parser.parse_args()
    try:
        plan = build(arguments.kit, find_trtexec(arguments.trtexec), force=arguments.force)
    except (KitError, OSError, KeyError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return getattr(error, "code", 1)
    print(plan)
    return 0


def build(kit: Path, trtexec: str, *, force: bool) -> Path:
    """Return the plan for this machine's GPU, built and judged unless it is there already."""
    description = json.loads((kit / "kit.json").read_text(encoding="utf-8"))
    version = tensorrt_version(trtexec)
    major = int(version.split(".", 1)[0])
    if major != description["tensorrt_major"]:
        raise KitError(
            f"this is TensorRT {version}, the kit wants {description['tensorrt_major']}: run it in "
            f"the container of Triton {description['triton']}, or make a kit for this one",
            2,
        )
    onnx = kit / description["onnx"]
    digest = files_digest(kit, description["files"])
    if digest != description["digest"]:
        raise KitError("the kit's model is not the one it was made with: make the kit again", 2)
    capability, gpu = compute_capability()
    folder = kit / "plans" / f"sm{capability.replace('.', '')}"
    folder.mkdir(parents=True, exist_ok=True)
    (kit / "cache").mkdir(exist_ok=True)
    stamp = {
        "digest": digest,
        "tensorrt": version,
        "compute_capability": capability,
        "build": description["build"],
    }
    plan = folder / "model.plan"
    places = {
        "onnx": onnx,
        "golden": kit / "golden",
        "answers": folder / "answers.json",
        "cache": kit / "cache" / f"trt{version}-sm{capability}.timing",
    }
    if not force and is_fresh(trtexec, description, folder, stamp, places):
        return plan
    part = folder / "model.plan.part"
    for name in ("model.plan.part", "plan.json", "answers.json"):
        (folder / name).unlink(missing_ok=True)
    run(trtexec, description["build"], {**places, "plan": part}, BUILD_S)
    if not part.is_file():
        raise KitError("trtexec built nothing")
    run(trtexec, description["gate"], {**places, "plan": part}, CHECK_S)
    if "{answers}" in " ".join(description["gate"]):
        compare(places["answers"], kit / "golden", description)
    # The stamp last: a plan without one was not judged and is never published.
    sync(part)
    part.replace(plan)
    stamp.update(gpu=gpu, sha256=file_digest(plan), bytes=plan.stat().st_size)
    written = folder / "plan.json.part"
    written.write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")
    sync(written)
    written.replace(folder / "plan.json")
    sync(folder)
    return plan


def is_fresh(
    trtexec: str,
    description: dict[str, Any],
    folder: Path,
    stamp: dict[str, Any],
    places: dict[str, Path],
) -> bool:
    """Return whether a judged plan of the same model, TensorRT and options stands there."""
    plan = folder / "model.plan"
    try:
        there = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if any(there.get(key) != value for key, value in stamp.items()) or not plan.is_file():
        return False
    if there.get("sha256") != file_digest(plan):
        return False
    try:
        run(trtexec, description["stale"], {**places, "plan": plan}, CHECK_S)
    except KitError:
        return False
    return True


def find_trtexec(given: str | None) -> str:
    """Return where trtexec is."""
    places = [given] if given else [os.environ.get("TRTEXEC"), *TRTEXEC_PLACES]
    for place in filter(None, places):
        if os.access(place, os.X_OK):
            return place
    found = shutil.which("trtexec") if not given else None
    if found is None:
        raise SystemExit(
            "error: there is no trtexec here: run this in the server's container, or give --trtexec"
        )
    return found


def tensorrt_version(trtexec: str) -> str:
    """Return the version that trtexec's banner tells, such as 11.1.0."""
    done = subprocess.run(
        [trtexec, "--help"], capture_output=True, text=True, timeout=CHECK_S, check=False
    )
    said = done.stdout + done.stderr
    if match := re.search(r"TensorRT v(\d{5,6})", said):
        number = int(match[1])
        return f"{number // 10000}.{number // 100 % 100}.{number % 100}"
    if match := re.search(r"TensorRT[. ]v?(\d+)\.(\d+)\.(\d+)", said):
        return ".".join(match.groups())
    raise KitError("trtexec does not tell its version", 2)


def compute_capability() -> tuple[str, str]:
    """Return the compute capability and the name of the first GPU."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=compute_cap,name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise KitError(f"no GPU can be seen ({error}); give the container --gpus all", 2) from error
    capability, _, name = done.stdout.splitlines()[0].partition(",")
    if not re.fullmatch(r"\d+\.\d+", capability.strip()):
        raise KitError(f"nvidia-smi tells no compute capability but {capability!r}", 2)
    return capability.strip(), name.strip()


def run(trtexec: str, arguments: Sequence[str], places: dict[str, Path], timeout_s: float) -> None:
    """Run trtexec with the kit's arguments, placeholders filled in; no shell is used."""
    command = [trtexec, *(re.sub(r"\{(\w+)\}", lambda m: str(places[m[1]]), a) for a in arguments)]
    print("+", " ".join(command), file=sys.stderr, flush=True)
    try:
        done = subprocess.run(command, stdout=sys.stderr, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise KitError(f"trtexec took longer than {timeout_s} s") from error
    if done.returncode:
        raise KitError(f"trtexec ended with code {done.returncode}; its words stand above")


def compare(answers: Path, golden: Path, description: dict[str, Any]) -> None:
    """Compare the answers that trtexec wrote with the golden ones."""
    written = {each["name"]: each["values"] for each in json.loads(answers.read_text())}
    for output in description["outputs"]:
        data = (golden / output["file"]).read_bytes()
        expected = [
            value for (value,) in struct.iter_unpack("<" + FORMATS[output["datatype"]], data)
        ]
        found = written[output["name"]]
        if len(found) != len(expected):
            raise KitError(
                f"output {output['name']}: {len(found)} values instead of {len(expected)}"
            )
        wrong = sum(not near(a, b, description) for a, b in zip(found, expected, strict=True))
        if wrong >= max(description["wrong_share"] * len(expected), 1):
            raise KitError(f"output {output['name']}: {wrong} of {len(expected)} values are wrong")


def near(found: float, expected: float, description: dict[str, Any]) -> bool:
    """Return whether two values agree; NaN agrees with NaN."""
    found, expected = float(found), float(expected)
    if math.isnan(found) or math.isnan(expected):
        return math.isnan(found) and math.isnan(expected)
    return found == expected or abs(found - expected) <= (
        description["atol"] + description["rtol"] * abs(expected)
    )


def files_digest(kit: Path, files: Sequence[str]) -> str:
    """Return the digest of the model's files, as export takes it."""
    if len(files) == 1:
        return "sha256:" + file_digest(kit / files[0])
    folder = kit / "model"
    lines = [f"{(kit / f).relative_to(folder)} sha256:{file_digest(kit / f)}\n" for f in files]
    return "sha256:" + hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())
