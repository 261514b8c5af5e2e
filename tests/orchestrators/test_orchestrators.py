"""Each orchestrator runs a real job through a real server, in an environment of its own.

``make test-orchestrators`` makes the environments; without them the tests are skipped by name.
"""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.crash import jobs

pytestmark = [pytest.mark.live, pytest.mark.ci, pytest.mark.timeout(1800)]

PROJECT = Path(__file__).parents[2]
SLOW = {"batch_rows": 8, "max_in_flight": 1}


@pytest.fixture
def run(triton, tmp_path):
    """Run one of the programs beside this file, and return what it tells."""

    def go(name):
        return json.loads(execute(name).strip().splitlines()[-1])

    def execute(name, *words, program=None):
        python = PROJECT / ".venv-orchestrators" / name / "bin" / "python"
        if not python.exists():
            pytest.skip(f"{name} is not installed; make test-orchestrators")
        options = {
            "endpoint": triton.grpc,
            "input_map": "x=a,b,c,d",
            "segment_rows": jobs.SEGMENT_ROWS,
            **SLOW,
        }
        spec = {
            "rows": str(jobs.write_rows(tmp_path / "rows.parquet")),
            "model": "wide",
            "out": str(tmp_path / "out"),
            "home": str(tmp_path),
            "options": options,
        }
        (tmp_path / "spec.json").write_text(json.dumps(spec))
        environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path / "airflow"), "USER": "tester"}
        environment |= {"METAFLOW_HOME": str(tmp_path), "PREFECT_HOME": str(tmp_path / "prefect")}
        environment |= {"DAGSTER_HOME": "", "DO_NOT_TRACK": "1"}
        program = program or Path(__file__).parent / f"in_{name}.py"
        words = words or (str(tmp_path / "spec.json"),)
        if name == "airflow":
            migrate = [str(python.parent / "airflow"), "db", "migrate"]
            subprocess.run(migrate, env=environment, check=True, capture_output=True, timeout=600)
        done = subprocess.run(
            [str(python), str(program), *words],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1200,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    go.execute = execute
    return go


def test_airflow(run, tmp_path):
    told = run("airflow")
    assert told["dag"]["state"].endswith("success")
    out = Path(told["dag"]["manifest"]).parents[1]
    assert out.name.startswith("score-20")  # the template was filled in
    assert jobs.is_right(out)
    killed = told["killed"]
    assert killed["first"] == "AirflowException"
    assert killed["segments_before"] >= killed["parts"] >= 1
    assert jobs.is_right(tmp_path / "out" / "killed")
    assert told["wrong"]["error"] == "AirflowFailException"
    assert "no_such_model" in told["wrong"]["text"]
    for name in ("deferred", "died"):
        assert told["deferrable"][name]["deferred"], told
        manifest = Path(told["deferrable"][name]["manifest"])
        assert manifest.exists()
        assert jobs.is_right(manifest.parents[1])


def test_dagster(run, tmp_path):
    told = run("dagster")
    assert told["a"]["runs"] == 2, "the first was killed, the second went on"
    assert told["b"]["runs"] == 1
    for key in ("a", "b"):
        assert told[key]["success"]
        assert told[key]["job_rows"] == jobs.ROWS
        assert Path(told[key]["manifest"]).exists()
        assert jobs.is_right(tmp_path / "out" / key)
    assert told["wrong"] == {"success": False, "runs": 1}


def test_prefect(run, tmp_path):
    told = run("prefect")
    assert told["done"]["runs"] == 2, "the first was killed, the second went on"
    assert told["done"]["job_rows"] == jobs.ROWS
    assert Path(told["done"]["manifest"]).exists()
    assert jobs.is_right(tmp_path / "out" / "a")
    assert told["wrong"] == {"failed": True, "runs": 1}


def test_kubeflow_compiles_and_its_container_does_what_it_says(run, triton, tmp_path):
    told = run("kubeflow")
    assert told["retry"]["maxRetryCount"] == 3
    container = told["container"]
    out, manifest = tmp_path / "out", tmp_path / "deep" / "manifest"
    values = {
        "{{$.inputs.parameters['inputs']}}": str(tmp_path / "rows.parquet"),
        "{{$.inputs.parameters['model']}}": "wide",
        "{{$.inputs.parameters['endpoint']}}": triton.grpc,
        "{{$.inputs.parameters['out']}}": str(out),
        "{{$.inputs.parameters['options']}}": "--input-map x=a,b,c,d",
        "{{$.outputs.parameters['manifest'].output_file}}": str(manifest),
    }
    words = [*container["command"], *(values[each] for each in container["args"])]
    path = f"{PROJECT / '.venv' / 'bin'}:{os.environ['PATH']}"
    subprocess.run(words, env={**os.environ, "PATH": path}, check=True, capture_output=True)
    assert Path(manifest.read_text()).exists()
    assert jobs.is_right(out)
    again = subprocess.run(
        [*words[:-5], "no_such_model", *words[-4:]],
        env={**os.environ, "PATH": path},
        capture_output=True,
        check=False,
    )
    assert again.returncode == 2


def test_metaflow(run, triton, tmp_path):
    days = tmp_path / "days"
    days.mkdir()
    for at in range(2):
        jobs.write_rows(days / f"{at}.parquet")
    program = PROJECT / "examples" / "orchestrators" / "metaflow_flow.py"
    words = [
        "--no-pylint",
        "run",
        "--inputs",
        str(days),
        "--model",
        "wide",
        "--out",
        str(tmp_path / "out"),
    ]
    words += ["--endpoint", triton.grpc, "--options", json.dumps({"input_map": "x=a,b,c,d"})]
    said = run.execute("metaflow", *words, program=program)
    assert f"{2 * jobs.ROWS} rows in 2 outputs" in said
    assert jobs.is_right(tmp_path / "out" / "0")
    assert jobs.is_right(tmp_path / "out" / "1")


EXAMPLES = re.findall(
    r"<!-- run: (\w+) -->\n```python\n(.*?)^```",
    (PROJECT / "docs" / "orchestrators.md").read_text(encoding="utf-8"),
    re.DOTALL | re.MULTILINE,
)


@pytest.mark.parametrize(("name", "code"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_the_example_of_the_document_is_taken(run, name, code, tmp_path):
    program = tmp_path / "example.py"
    program.write_text(code)
    run.execute(name, program=program)
