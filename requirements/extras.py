"""Install every extra by itself in a new environment, and see that nothing there contradicts.

    python requirements/extras.py [EXTRA...]    prints one line an extra, for docs/extras.md

The environment is made anew, ``tritonbulk[EXTRA]`` is installed from this tree, ``pip check`` must
find nothing, and what the extra is for must import. ``gpu`` and ``dev`` are left out: one needs a
GPU, the other is what `.venv` is. uv is used where it is found.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1]
LEFT_OUT = ("dev", "gpu")
IMPORTS = {
    "airflow": "tritonbulk.integrations.airflow",
    "dagster": "tritonbulk.integrations.dagster",
    "delta": "tritonbulk.sinks.delta, deltalake.transaction",
    "daft": "daft",
    "duckdb": "tritonbulk.sinks.duckdb, duckdb",
    "iceberg": "tritonbulk.sinks.iceberg, pyiceberg.catalog.sql",
    "kubeflow": "tritonbulk.integrations.kubeflow",
    "lance": "tritonbulk.sinks.lance, lance",
    "metaflow": "metaflow",
    "openlineage": "tritonbulk.telemetry.openlineage",
    "otel": "tritonbulk.telemetry.opentelemetry, opentelemetry.sdk",
    "postgresql": "tritonbulk.sinks.postgresql, adbc_driver_postgresql.dbapi",
    "prefect": "tritonbulk.integrations.prefect",
    "ray": "ray.data",
    "s3": "obstore",
    "spark": "pyspark.sql",
}
"""What must import; of others the package of the extra's first requirement."""


def extras() -> dict[str, list[str]]:
    """Return the requirements of each extra."""
    with (PROJECT / "pyproject.toml").open("rb") as file:
        found: dict[str, list[str]] = tomllib.load(file)["project"]["optional-dependencies"]
    return {name: wants for name, wants in sorted(found.items()) if name not in LEFT_OUT}


def check(extra: str) -> str:
    """Return what became of an extra: "ok", or why not; with its size and seconds."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tritonbulk-extra-") as folder:
        python = f"{folder}/bin/python"
        uv = shutil.which("uv")
        wanted = f"{PROJECT}[{extra}]"
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wanted]
        if uv is not None:
            install = [uv, "pip", "install", "--quiet", "--python", python, wanted]
        steps = (
            [sys.executable, "-m", "venv", folder],
            install,
            [python, "-m", "pip", "check"],
            [python, "-c", f"import tritonbulk, {IMPORTS.get(extra, 'tritonbulk_export')}"],
            [python, "-m", "tritonbulk", "--version"],
        )
        outcome = "ok"
        for step in steps:
            done = subprocess.run(step, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                said = (done.stdout + done.stderr).strip().splitlines() or ["no word"]
                outcome = f"FAILED at {' '.join(step[1:3])}: {said[-1]}"
                break
        size_mb = sum(each.lstat().st_size for each in Path(folder).rglob("*")) / 1e6
    return f"| `{extra}` | {outcome} | {size_mb:,.0f} MB | {time.monotonic() - began:,.0f} s |"


def main() -> None:
    """Check the extras that are named, or all."""
    known = extras()
    asked = sys.argv[1:] or list(known)
    if unknown := [each for each in asked if each not in known]:
        sys.exit(f"no extra {unknown[0]}; there are {', '.join(known)}")
    failed = False
    for extra in asked:
        line = check(extra)
        failed |= "FAILED" in line
        print(line, flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
