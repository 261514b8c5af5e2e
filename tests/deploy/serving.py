"""The embedded server, started as in containers."""

from tests.deploy.files import SERVE
from tritonbulk.server import launch
from tritonbulk.server.guard import server_marker


def started_by_the_script(monkeypatch, tmp_path, **variables):
    """Have the embedded server started by the script of the containers, with these variables."""

    def command_line(options, ports):
        programs = tmp_path / "programs"
        programs.mkdir(exist_ok=True)
        wrapper = programs / "tritonserver"
        # What the container's tritonserver knows by itself and the embedded one must be told.
        wrapper.write_text(
            f'#!/bin/sh\nexec "{options.binary}" --backend-directory="{options.backends}" '
            f'--cache-directory="{options.caches}" "$@"\n'
        )
        wrapper.chmod(0o755)
        settings = {"MODEL_REPOSITORY": options.repository, "EXIT_TIMEOUT_SECS": 5, **variables}
        return [
            "/bin/sh", "-c", 'PATH=$1:$PATH; shift; exec env "$@"', "sh", str(programs),
            *(f"{name}={value}" for name, value in settings.items()), "/bin/sh", str(SERVE),
            "--grpc-address=127.0.0.1", f"--grpc-port={ports.grpc}",
            "--metrics-address=127.0.0.1", f"--metrics-port={ports.metrics}",
            server_marker(options.prefix),
        ]  # fmt: skip

    monkeypatch.setattr(launch, "command_line", command_line)
