"""Make the pinned lists that stand beside those of the project; CONTRIBUTING.md has the latter.

    python requirements/lists.py        (needs uv)

Only hashes of what Linux can install with the Python at hand are kept: the lists stay short.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
IMAGES = HERE.parent / "docker"
OURS = HERE.parent.as_uri()
ANY_PYTHON = re.compile(
    r"-none-any\.whl|(cp31[123]|abi3|py3)-(abi3|none|cp31[123])?-?manylinux.*\.whl"
)
IMAGE_PYTHON = re.compile(r"-none-any\.whl|(cp312|abi3|py3)-(abi3|none|cp312)?-?manylinux.*\.whl")
IMAGE_LISTS = {
    "build-requirements.txt": ("hatchling>=1.27",),
    "scorer/requirements.txt": (f"tritonbulk[otel,s3] @ {OURS}",),
    "export/requirements.txt": (
        f"tritonbulk[export-transformers,export-sklearn,export-lightgbm] @ {OURS}",
        "xgboost-cpu>=3.1,<4",
    ),
}
WITH_TORCH = re.compile(r"torch|triton$|nvidia|cuda")
"""torch, which is named by version alone, and what comes with it."""

ELSEWHERE = re.compile(r"sys_platform == '(win32|darwin|emscripten)'")


def main() -> None:
    """Write all lists."""
    base = HERE / "py311.txt"
    known = set(re.findall(r"^([A-Za-z0-9_.-]+)==", base.read_text(), re.MULTILINE))
    packages = resolve(read(HERE / "frameworks.in"), "3.11", base)
    more = [each for each in packages if each["name"] not in known]
    write(HERE / "frameworks.txt", more, ANY_PYTHON)
    write(HERE / "deploy.txt", resolve(read(HERE / "deploy.in"), "3.11"), ANY_PYTHON)
    for name, wanted in IMAGE_LISTS.items():
        packages = resolve(wanted, "3.12", HERE / "py312.txt", HERE / "frameworks.txt")
        for_linux = [
            {key: value for key, value in each.items() if key != "marker"}
            for each in packages
            if each["name"] != "tritonbulk" and not ELSEWHERE.search(each.get("marker", ""))
        ]
        write(IMAGES / name, for_linux, IMAGE_PYTHON)


def read(path: Path) -> list[str]:
    """Return the requirements of a file."""
    return [line for line in path.read_text().splitlines() if not line.startswith("#")]


def resolve(wanted: Iterable[str], python: str, *constraints: Path) -> list[dict[str, Any]]:
    """Return the packages that were found for requirements, as pylock.toml has them."""
    source, lock = HERE / "made.in", HERE / "pylock.made.toml"
    source.write_text("".join(f"{each}\n" for each in wanted))
    command = [shutil.which("uv") or "uv", "pip", "compile", "-q", str(source), "--universal"]
    command += [word for path in constraints for word in ("--constraint", str(path))]
    command += ["--python-version", python, "--format", "pylock.toml", "-o", str(lock)]
    try:
        subprocess.run(command, check=True)
        packages: list[dict[str, Any]] = tomllib.loads(lock.read_text())["packages"]
    finally:
        source.unlink()
        lock.unlink(missing_ok=True)
    return packages


def write(path: Path, packages: Iterable[Mapping[str, Any]], wheels: re.Pattern[str]) -> None:
    """Write a list of versions, with hashes of the files that ``wheels`` matches."""
    path.write_text("".join(_pins(packages, wheels)))


def _pins(packages: Iterable[Mapping[str, Any]], wheels: re.Pattern[str]) -> Iterator[str]:
    for package in packages:
        if WITH_TORCH.match(package["name"]):
            continue
        marker = f" ; {package['marker']}" if "marker" in package else ""
        hashes = sorted({f"--hash=sha256:{digest}" for digest in _digests(package, wheels)})
        pin = f"{package['name']}=={package['version']}{marker}"
        yield " \\\n    ".join([pin, *hashes]) + "\n"


def _digests(package: Mapping[str, Any], wheels: re.Pattern[str]) -> list[str]:
    files = [file for file in package.get("wheels", []) if wheels.search(_name(file))]
    return [file["hashes"]["sha256"] for file in files or [package["sdist"]]]


def _name(file: Mapping[str, str]) -> str:
    return file.get("name") or file["url"].rpartition("/")[2]


if __name__ == "__main__":
    main()
