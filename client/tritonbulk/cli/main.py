"""``tritonbulk``: finds the commands, and turns errors into one line and an exit code.

Commands are entry points of the group ``tritonbulk.commands``, so that those which need heavy
packages (``export``) live elsewhere and are loaded only when they are used.

Exit codes: 0 all rows ok · 1 finished with failed rows · 2 wrong use · 3 server, I/O or outage ·
4 stopped by a failure limit · 130 / 143 interrupted by SIGINT / SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from importlib.metadata import EntryPoint, entry_points, version
from typing import NoReturn

import click

from tritonbulk.allocator import keep_freed_memory
from tritonbulk.cli.starting import how_to_go_on, leaving_at_once
from tritonbulk.errors import TritonbulkError
from tritonbulk.redaction import redact
from tritonbulk.telemetry.logs import complain, is_json

_GROUP = "tritonbulk.commands"


class _Commands(click.Group):
    """A group whose members are entry points, each loaded when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return sorted(_entry_points())

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002
        cmd_name: str,
    ) -> click.Command | None:
        found = _entry_points().get(cmd_name)
        if found is None:
            return None
        with leaving_at_once():
            command = found.load()
        if not isinstance(command, click.Command):
            raise TypeError(f"entry point {cmd_name} of {_GROUP} is no click command")
        return command


def _entry_points() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=_GROUP)}


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example:  tritonbulk score flights.parquet --model flight_delay --out scored/",
)
@click.version_option(version("tritonbulk"), prog_name="tritonbulk")
def command() -> None:
    """Score a very large file with a model on NVIDIA Triton: fast, once, and correctly."""


def main() -> NoReturn:
    """Run the command line and exit."""
    said, interrupted_code = "interrupted", 130

    def terminate(_signal: int, _frame: object) -> None:
        # To asyncio an interrupt is the main task's end; an exit raised here would be any task's.
        nonlocal said, interrupted_code
        said, interrupted_code = "terminated", 143
        signal.raise_signal(signal.SIGINT)

    if hasattr(signal, "SIGTERM"):
        signal.signal(signal.SIGTERM, terminate)
    # What gRPC has to say comes as failures; its own lines are no JSON, and nothing for people.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    keep_freed_memory()
    try:
        code = command.main(standalone_mode=False)
        _deafen()
        sys.exit(code if isinstance(code, int) else 0)
    except TritonbulkError as error:
        complain(error, str(error), error.exit_code)
        _deafen()
        sys.exit(error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        complain(error, _in_one_line(error), error.exit_code)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt) as error:
        complain(error, said, interrupted_code)
        if line := how_to_go_on():
            click.echo(line, err=True)
        sys.exit(interrupted_code)
    except BrokenPipeError:
        # Whoever read our output has gone; there is nobody left to tell.
        sys.stderr.close()
        sys.exit(3)
    except Exception as error:
        if not is_json():
            click.echo(redact(traceback.format_exc()), err=True)
        complain(error, f"{type(error).__name__}, which tritonbulk did not expect", 3)
        sys.exit(3)


def _in_one_line(error: click.ClickException) -> str:
    """Return what is wrong with the command line, and where to look."""
    said = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    return said if context is None else f"{said} (see {context.command_path} --help)"


def _deafen() -> None:
    """Hear no more signals: all is done and said, and Python's own end takes a moment."""
    for name in ("SIGINT", "SIGTERM"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


if __name__ == "__main__":
    main()
