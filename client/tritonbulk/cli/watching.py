"""What watches a run: the bar or lines for people, JSON for machines, metrics, traces."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import click

from tritonbulk.cli.progress import Pace, RowProgress
from tritonbulk.errors import OptionError
from tritonbulk.events import RunEvent
from tritonbulk.metrics import Meter
from tritonbulk.options import ScoreOptions
from tritonbulk.result import ScoreResult
from tritonbulk.running import Observer
from tritonbulk.telemetry.logs import LOG_FORMATS, LOG_LEVELS, RunLog, configure_logs

LOOPBACK = "127.0.0.1"

_Command = TypeVar("_Command", bound=Callable[..., Any])


def log_options(command: _Command) -> _Command:
    """Add the options that say what stands on stderr."""
    for option in reversed(
        (
            click.option(
                "--log-format",
                type=click.Choice(LOG_FORMATS),
                default="text",
                show_default=True,
                help="Of stderr; json: one object a line, without what stands in rows.",
            ),
            click.option(
                "--log-level",
                type=click.Choice(LOG_LEVELS),
                help="Of the lowest records.  [default: info for json, warning for text]",
            ),
        )
    ):
        command = option(command)
    return command


def watching_options(command: _Command) -> _Command:
    """Add the options that say who watches a run."""
    for option in reversed(
        (
            click.option(
                "--metrics-port",
                type=click.IntRange(0, 65535),
                metavar="PORT",
                help="Show metrics to Prometheus there while it runs; 0 takes any.",
            ),
            click.option(
                "--metrics-address",
                default=LOOPBACK,
                show_default=True,
                metavar="HOST",
                help="Where --metrics-port listens; it asks nobody for a password.",
            ),
            click.option(
                "--otel",
                is_flag=True,
                help="Send traces and metrics by OTLP, as the OTEL_… variables say.",
            ),
        )
    ):
        command = option(command)
    return log_options(command)


def lineage_option(command: _Command) -> _Command:
    """Add the option that has lineage events sent."""
    return click.option(
        "--openlineage",
        is_flag=True,
        help="Send lineage events, as the OPENLINEAGE_… variables say.",
    )(command)


@contextlib.contextmanager
def lineage(
    given: Mapping[str, Any], options: ScoreOptions, say: Callable[[str], None]
) -> Iterator[Callable[[ScoreResult], None]]:
    """Tell lineage of a run, if `lineage_option` asks for it; gives what is told the result.

    Raises:
        OptionError: nothing says where events go; a retry does not help.
        PlatformError: the package is missing; a retry does not help.
    """
    if not given["openlineage"]:
        yield lambda _: None
        return
    from tritonbulk.telemetry.openlineage import emitting  # noqa: PLC0415  most runs do not need it

    with emitting(options, say) as tell:
        yield tell


@contextlib.contextmanager
def watching(given: Mapping[str, Any]) -> Iterator[tuple[Observer, Pace]]:
    """Give an observer that tells everyone whom `watching_options` asks for, and a run's pace.

    Raises:
        OptionError: nothing can listen at the port; a retry does not help.
        PlatformError: the packages of ``--otel`` are missing; a retry does not help.
    """
    if given["metrics_port"] is None and given["metrics_address"] != LOOPBACK:
        raise OptionError("--metrics-address needs --metrics-port; give both")
    configure_logs(given["log_format"], given["log_level"])
    with contextlib.ExitStack() as stack:
        pace = Pace()
        watchers: list[Meter | RunLog | RowProgress]
        notes: list[Callable[[RunEvent], None]] = []
        if given["log_format"] == "json":
            log = RunLog()
            watchers, say = [log], log.say
            notes.append(log.note)
        else:
            progress = stack.enter_context(RowProgress())
            watchers, say, pace = [progress], progress.say, progress.pace
        meters: list[Meter] = []
        # Imported where asked for: they are packages that most runs do not need.
        if given["otel"]:
            from tritonbulk.telemetry.opentelemetry import exporting  # noqa: PLC0415

            sink, trace = stack.enter_context(exporting(given["model"]))
            meters.append(Meter(sink))
            notes.append(trace.note)
        if given["metrics_port"] is not None:
            from tritonbulk.telemetry.prometheus import PrometheusSink, serving  # noqa: PLC0415

            shown = PrometheusSink()
            where = serving(shown, given["metrics_address"], given["metrics_port"])
            say(f"metrics are at {stack.enter_context(where)}")
            meters.append(Meter(shown))
        watchers += meters
        notes += [meter.note for meter in meters]
        observer = Observer(
            say,
            _each([each.begin for each in watchers]),
            _each([each.advance for each in watchers]),
            _each(notes) if notes else None,
        )
        yield observer, pace


def _each(functions: Sequence[Callable[..., None]]) -> Callable[..., None]:
    def call(*given: Any) -> None:
        for function in functions:
            function(*given)

    return call
