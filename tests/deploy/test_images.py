"""The steps that build an image (COPY and RUN) are carried out in a folder: no engine needed."""

import os
import re
import shlex
import shutil
import subprocess

import pyarrow.parquet as pq
import pytest

from examples.flights.data import read_flights
from tests.deploy.files import DOCKER, PROJECT

pytestmark = [
    pytest.mark.ci,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        not os.environ.get("TRITONBULK_DEPLOY_TOOLS"), reason="belongs to `make test-deploy`"
    ),
]
PLACES = ("/opt/tritonbulk", "/wheels")
TORCH = re.compile(r"&& pip [^&]*torch==[\d.]+ ?")


def build(image, root):
    """Carry out the first stage of an image's Dockerfile below ``root``; return what it makes.

    The base image is a Python 3.12 of this machine. torch is left out: its index is another one.
    """
    python = os.environ.get("PYTHON312") or shutil.which("python3.12")
    if python is None or subprocess.run([python, "-c", ""], check=False).returncode:
        pytest.skip("no Python 3.12 here; PYTHON312 names one")
    base, source = root / "base", root / "source"
    subprocess.run([python, "-m", "venv", str(base)], check=True)
    source.mkdir()
    text = (DOCKER / image / "Dockerfile").read_text().replace("\\\n", " ")
    stage = text.split("\nFROM ")[1]
    for step in re.findall(r"^(COPY|RUN) (.+)$", stage, re.MULTILINE):
        match step:
            case "COPY", words:
                *files, target = shlex.split(words)
                for file in files:
                    here = PROJECT / file
                    if here.is_dir():
                        shutil.copytree(here, source / target)
                    else:
                        shutil.copy(here, source / target)
            case "RUN", command:
                for place in PLACES:
                    command = command.replace(place, f"{root}{place}")
                subprocess.run(
                    ["/bin/sh", "-ec", TORCH.sub("", command)], cwd=source, check=True,
                    env={**os.environ, "PATH": f"{base}/bin:{os.environ['PATH']}"},
                )  # fmt: skip
    made = root / "opt" / "tritonbulk"
    assert not list(made.rglob("site-packages/pip")), "what installs is not installed"
    return made / "bin" / "tritonbulk"


@pytest.fixture
def root(tmp_path):
    """A folder that does not outlast the test: an image has some GB."""
    yield tmp_path / "image"
    shutil.rmtree(tmp_path)


def test_the_scorers_image_scores(triton, root, tmp_path):
    program = build("scorer", root)
    rows = tmp_path / "rows.csv"
    rows.write_text("a,b,c,d\n" + "1,2,3,4\n" * 100)
    words = ["score", rows, "--model", "wide", "--out", tmp_path / "out", "--endpoint", triton.grpc]
    subprocess.run([program, *words, "--input-map", "x=a,b,c,d"], check=True, timeout=600)
    assert pq.read_table(tmp_path / "out").num_rows == 100


def test_the_exporters_image_exports(root, tmp_path):
    program = build("export", root)
    sample = tmp_path / "flights.parquet"
    pq.write_table(read_flights().slice(0, 2_000), sample)
    model = PROJECT / "examples" / "flights" / "flight_delay.lgb.txt"
    subprocess.run(
        [program, "export", "lightgbm", model, "--name", "flight_delay", "--sample", sample,
         "--repository", tmp_path / "models"], check=True, timeout=600,
    )  # fmt: skip
    assert list((tmp_path / "models" / "flight_delay").glob("*/model.onnx"))
