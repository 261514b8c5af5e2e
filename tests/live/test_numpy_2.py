"""Under numpy 2 the server's own conversions give empty outputs in silence; ours do not."""

import os
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc

from tritonbulk.server import embedded, environment
from tritonbulk.server.embedded import EmbeddedTriton

pytestmark = [pytest.mark.live, pytest.mark.ci]


def _copy(source, target):
    """Copy a small file, link a large one: pip writes into scripts, never into libraries."""
    (os.link if os.path.getsize(source) > 2**20 else shutil.copy2)(source, target)  # noqa: PTH202


@pytest.fixture
def numpy_2(tmp_path, monkeypatch):
    """Let servers run from a copy of their environment that has numpy 2."""
    with environment.in_use(print) as home:
        folder = tmp_path / home.path.name
        shutil.copytree(home.path, folder, symlinks=True, copy_function=_copy)
    other = replace(home, path=folder)
    numpy = next(other.site_packages.glob("numpy-*.dist-info"))
    for old in (numpy, other.site_packages / "numpy", other.site_packages / "numpy.libs"):
        shutil.rmtree(old)
    pip = [other.executable, "-m", "pip", "install", "--quiet", "--no-deps", "numpy>=2.2,<3"]
    subprocess.run(pip, check=True)

    @contextmanager
    def in_use(*_):
        yield other

    monkeypatch.setattr(embedded.environment, "in_use", in_use)


def infer(address, model):
    values = np.arange(8, dtype=np.float32).reshape(2, 4)
    tensor = triton_grpc.InferInput("x", [2, 4], "FP32")
    tensor.set_data_from_numpy(values)
    with triton_grpc.InferenceServerClient(address) as client:
        return values, client.infer(model, [tensor])


def test_our_backend_answers_in_full_where_the_servers_own_way_answers_nothing(numpy_2, repository):
    with EmbeddedTriton(repository, stop_deadline_s=0) as server:
        values, answer = infer(server.grpc, "double")
        assert (answer.as_numpy("y") == 2 * values).all()
        # The trap itself: a model that uses as_numpy() and Tensor(name, array) is OK and empty.
        _, trapped = infer(server.grpc, "halve")
        assert list(trapped.get_output("y").shape) == [2, 4]
        assert trapped.get_response().raw_output_contents[0] == b""


def test_an_environment_that_was_changed_behind_our_back_is_not_used(monkeypatch):
    with environment.in_use(print) as home:
        found = environment.pinned_versions(home.python)
    assert found["numpy"].startswith("1.")
    monkeypatch.setattr(environment, "pinned_versions", lambda python: {**found, "numpy": "1.26.3"})
    looked_at = environment.info()
    assert looked_at is not None
    assert not looked_at.complete
