"""The built wheel, installed elsewhere, serves and scores."""

import json
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytestmark = [pytest.mark.live, pytest.mark.ci]

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder]
    subprocess.run(build, cwd=PROJECT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def elsewhere(wheel, tmp_path_factory):
    """An environment with the wheel; its dependencies are those of this environment."""
    home = tmp_path_factory.mktemp("elsewhere") / "venv"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(pip, check=True)
    where = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = subprocess.run(where, check=True, capture_output=True, text=True).stdout.strip()
    # A path entry that is not a .pth of its own: this environment's editable project stays out.
    (Path(site) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home / "bin"


def test_it_holds_the_two_packages_and_what_they_need_at_run_time(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        "tritonbulk",
        "tritonbulk_export",
    }
    for needed in ("py.typed", "server/backend/model.py", "server/requirements/py311.txt"):
        assert f"tritonbulk/{needed}" in names


def test_it_serves_and_scores(elsewhere, repository, tmp_path):
    rows = tmp_path / "rows.parquet"
    pq.write_table(pa.table({name: np.arange(50, dtype=np.float32) for name in "abcd"}), rows)
    command = [str(elsewhere / "tritonbulk"), "serve", str(repository), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as server:
        assert server.stdout is not None
        try:
            endpoint = json.loads(server.stdout.readline())["grpc"]
            score = [
                elsewhere / "tritonbulk", "score", rows, "--model", "double", "--endpoint",
                endpoint, "--out", tmp_path / "out", "--input-map", "x=a,b,c,d", "--json",
            ]  # fmt: skip
            done = subprocess.run(
                list(map(str, score)), capture_output=True, text=True, cwd=tmp_path, check=True
            )
        finally:
            server.terminate()
    assert json.loads(done.stdout.splitlines()[-1])["rows_ok"] == 50
    assert pq.read_table(tmp_path / "out")["y"].to_pylist()[7] == [14.0] * 4
