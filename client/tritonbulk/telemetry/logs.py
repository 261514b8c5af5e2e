"""Logs: everything on stderr as one JSON object a line, or as lines for people; without secrets.

What stands in rows is never logged: of failed rows the status and a digest of the error's text, of
an error that quotes values its class and digest. The texts stand in the output and in the report.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import time
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from tritonbulk.errors import TritonbulkError
from tritonbulk.events import EndpointChanged, EndpointState, RowsFailed, RunEvent
from tritonbulk.redaction import redact
from tritonbulk.text import printable

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

LOG_FORMATS: tuple[LogFormat, ...] = get_args(LogFormat)
LOG_LEVELS: tuple[LogLevel, ...] = get_args(LogLevel)

PROGRESS_EVERY_S = 5.0
"""Pause between two records of progress."""

_FIELDS = "tritonbulk_fields"
_log = logging.getLogger("tritonbulk")


class _Json(logging.Formatter):
    """One JSON object a record: time, level, logger, event and its fields."""

    def format(self, record: logging.LogRecord) -> str:
        plain: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            plain["exception"] = record.exc_info[0].__name__
        return redact(json.dumps(plain, ensure_ascii=True, default=str))


class _Lines(logging.Formatter):
    """A line a record for people."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return "\n".join(map(printable, redact(text).split("\n")))


def configure_logs(log_format: LogFormat, level: LogLevel | None = None) -> None:
    """Send what this process logs to stderr, in one of two formats, secrets taken out.

    Args:
        log_format: "json" also makes records of what a run says and of its progress.
        level: of the lowest records; None takes "info" for JSON, "warning" else.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if log_format == "json" else _Lines("%(name)s: %(message)s"))
    root = logging.getLogger()
    for each in [each for each in root.handlers if isinstance(each.formatter, (_Json, _Lines))]:
        root.removeHandler(each)
    root.addHandler(handler)
    root.setLevel((level or ("info" if log_format == "json" else "warning")).upper())


def is_json() -> bool:
    """Return whether stderr is to hold JSON alone."""
    return any(isinstance(each.formatter, _Json) for each in logging.getLogger().handlers)


class RunLog:
    """Records of one run; its functions are those of an observer."""

    def __init__(self) -> None:
        self._began_s = self._told_s = time.monotonic()
        self._out: set[str] = set()
        self._failed_told_s: dict[int, float] = {}

    def say(self, text: str) -> None:
        """Record one sentence."""
        is_warning = text.startswith("warning: ")
        level = logging.WARNING if is_warning else logging.INFO
        _record(level, "said", text=text.removeprefix("warning: "))

    def begin(self, rows: int | None) -> None:
        """Record that the first row is about to be sent."""
        self._began_s = self._told_s = time.monotonic()
        _record(logging.INFO, "begun", rows=rows)

    def advance(self, rows_ok: int, rows_failed: int) -> None:
        """Record progress, now and then."""
        now_s = time.monotonic()
        if now_s - self._told_s < PROGRESS_EVERY_S:
            return
        self._told_s = now_s
        rate = round((rows_ok + rows_failed) / (now_s - self._began_s), 1)
        _record(
            logging.INFO,
            "progress",
            rows_ok=rows_ok,
            rows_failed=rows_failed,
            rows_per_second=rate,
        )

    def note(self, event: RunEvent) -> None:
        """Record what happens to endpoints and to rows that are given up.

        An endpoint that stays out is a warning once; what is tried meanwhile is for debugging, as
        are rows that fail soon after others did of the same status.
        """
        match event:
            case EndpointChanged(endpoint, state, reason, quotes):
                level = self._level(endpoint, state)
                why = {"digest": _digest(reason)} if quotes else {"reason": reason}
                _record(level, "endpoint", endpoint=endpoint, state=state, **why)
            case RowsFailed(rows, status, text):
                now_s = time.monotonic()
                told_s = self._failed_told_s.get(status)
                is_soon = told_s is not None and now_s - told_s < PROGRESS_EVERY_S
                if not is_soon:
                    self._failed_told_s[status] = now_s
                level = logging.DEBUG if is_soon else logging.WARNING
                _record(level, "rows_failed", rows=rows, code=status, digest=_digest(text))

    def _level(self, endpoint: str, state: EndpointState) -> int:
        was_out = endpoint in self._out
        if state in ("up", "gone"):
            self._out.discard(endpoint)
            return logging.INFO if state == "up" else logging.WARNING
        self._out.add(endpoint)
        return logging.DEBUG if was_out else logging.WARNING


def complain(error: BaseException, text: str, exit_code: int) -> None:
    """Tell why the command fails: a record in JSON, else one line.

    Args:
        error: what ended it.
        text: one sentence, as people are told.
        exit_code: of the process.
    """
    line = " ".join(redact(text).split())
    if not is_json():
        sys.stderr.write(f"tritonbulk: {line}\n")
        return
    said = {"text": line}
    if isinstance(error, TritonbulkError) and error.quotes_data:
        said = {"digest": _digest(line)} | ({"text": error.log_text} if error.log_text else {})
    _record(logging.ERROR, "failed", error=type(error).__name__, exit_code=exit_code, **said)


def _record(level: int, event: str, **fields: object) -> None:
    _log.log(level, event, extra={_FIELDS: fields})


def _digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]
