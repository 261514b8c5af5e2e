"""Reporting: records a run while it goes on and leaves its figures and its report."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from pathlib import Path

from tritonbulk.environment import environment
from tritonbulk.errors import SinkError, TritonbulkError
from tritonbulk.events import RunEvent
from tritonbulk.job.stores.base import Store
from tritonbulk.jobrun import record_run
from tritonbulk.options import ScoreOptions
from tritonbulk.redaction import redact
from tritonbulk.report.recorder import Recorder
from tritonbulk.report.run_page import RunFacts, run_page
from tritonbulk.result import ScoreResult

_SHOWN_ELSEWHERE = frozenset(
    {"inputs", "model", "out", "access", "report", "endpoints", "batch_rows", "transport"}
)
_SETTING_LETTERS = 200


class Reporter:
    """Takes part in one run; made before it begins, asked for the report when it has ended."""

    def __init__(self, options: ScoreOptions) -> None:
        self._options = options
        self._record = Recorder()
        self._began_s: float | None = None
        self._began = datetime.now(UTC)

    def begin(self) -> None:
        """Count time from now."""
        self._began_s = time.perf_counter()
        self._began = datetime.now(UTC)

    def note(self, event: RunEvent) -> None:
        """Take an event in; microseconds."""
        if self._began_s is None:
            self.begin()
        self._record.note(event, time.perf_counter() - (self._began_s or 0.0))

    def finish(self, store: Store, result: ScoreResult) -> tuple[ScoreResult, str]:
        """Leave figures and report of a run, beside its job and where they were asked for.

        Returns:
            The result with the place of its report, and what could not be written, if anything.
        """
        if self._began_s is None:
            missing = f"{self._options.report} is not written: there was nothing to do"
            return result, missing if self._options.report else ""
        page = self._page(result, "")
        problems = []
        try:
            name = record_run(store, asdict(result), page.encode())
            result = replace(result, report=f"{store.name.rstrip('/')}/{name}")
        except SinkError as error:
            problems.append(f"the job is finished, but figures of this run are not kept: {error}")
        if self._options.report is not None:
            try:
                _write(self._options.report, page)
                result = replace(result, report=str(self._options.report))
            except SinkError as error:
                problems.append(str(error))
        return result, "; ".join(problems)

    def fail(self, store: Store, error: BaseException) -> None:
        """Leave the report of a run that did not come to its end; never raises."""
        if self._began_s is None:
            return
        page = self._page(None, str(error) or type(error).__name__)
        # A store that has just failed would only be waited for once more.
        if not isinstance(error, SinkError):
            with contextlib.suppress(TritonbulkError, OSError):
                record_run(store, None, page.encode())
        if self._options.report is not None:
            with contextlib.suppress(SinkError):
                _write(self._options.report, page)

    def _page(self, result: ScoreResult | None, error: str) -> str:
        options = self._options
        took_s = result.seconds if result else time.perf_counter() - (self._began_s or 0.0)
        facts = RunFacts(
            model=options.model,
            version=result.model_version if result else options.model_version or "",
            inputs=options.inputs,
            output=result.output if result else str(options.out),
            began=self._began,
            seconds=took_s,
            result=result,
            error=error,
            settings=_settings(options, result),
            environment=environment(),
        )
        return redact(run_page(facts, self._record))


def _settings(options: ScoreOptions, result: ScoreResult | None) -> dict[str, str]:
    """Return what the run was asked for, where that differs from what it does by itself."""
    found = {}
    for each in fields(options):
        value = getattr(options, each.name)
        if each.name in _SHOWN_ELSEWHERE or value in (each.default, None, (), {}):
            continue
        text = redact(", ".join(map(str, value)) if isinstance(value, tuple) else str(value))
        found[each.name.replace("_", " ")] = text[:_SETTING_LETTERS]
    if result is not None:
        found |= {
            "rows a request": f"{result.batch_rows:,}",
            "most in flight": f"{result.in_flight_max:,}",
            "transport": result.transport or "none",
            "endpoints": ", ".join(result.endpoints)[:_SETTING_LETTERS] or "none",
            "job": result.job[:19],
        }
    return found


def _write(path: Path, page: str) -> None:
    """Write a page whole or not at all, in place of what stands there.

    Raises:
        SinkError: it cannot be; give another place.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_text(page, encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise SinkError(f"the report {path} cannot be written ({error})") from error
