"""Make ``frameworks.txt``: pins of what ``frameworks.in`` adds to the lists of the project.

    python requirements/frameworks.py        (needs uv)

Only hashes of what Linux can install with Python 3.11 to 3.13 are kept, so that the list stays
short.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
BASE = HERE / "py311.txt"
PLATFORM = re.compile(
    r"-none-any\.whl|(cp31[123]|abi3|py3)-(abi3|none|cp31[123])?-?manylinux.*\.whl"
)


def main() -> None:
    """Resolve, leave out what the project's own list has, write."""
    lock = HERE / "pylock.frameworks.toml"
    command = (
        *(shutil.which("uv") or "uv", "pip", "compile", "-q", str(HERE / "frameworks.in")),
        *("--python-version", "3.11", "--universal", "--constraint", str(BASE)),
        *("--format", "pylock.toml", "-o", str(lock)),
    )
    subprocess.run(command, check=True)
    packages = tomllib.loads(lock.read_text())["packages"]
    lock.unlink()
    known = set(re.findall(r"^([A-Za-z0-9_.-]+)==", BASE.read_text(), re.MULTILINE))
    with (HERE / "frameworks.txt").open("w") as out:
        for package in packages:
            if package["name"] in known or package["name"].startswith(("torch", "nvidia")):
                continue
            marker = f" ; {package['marker']}" if "marker" in package else ""
            hashes = sorted({f"--hash=sha256:{digest}" for digest in _digests(package)})
            pin = f"{package['name']}=={package['version']}{marker}"
            out.write(" \\\n    ".join([pin, *hashes]) + "\n")


def _digests(package: dict[str, object]) -> list[str]:
    files = [file for file in package.get("wheels", []) if PLATFORM.search(_name(file))]
    return [file["hashes"]["sha256"] for file in files or [package["sdist"]]]


def _name(file: dict[str, str]) -> str:
    return file.get("name") or file["url"].rpartition("/")[2]


if __name__ == "__main__":
    main()
