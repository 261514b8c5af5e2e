"""Every error that tritonbulk raises, in one tree that answers one question: will a retry help?

::

    TritonbulkError
    ├── UsageError            what was asked cannot work; nothing was sent            exit 2
    │   ├── OptionError       an option or a combination of options
    │   ├── InputError        a missing or unreadable file, a missing column, a wrong dtype
    │   ├── ContractError     model and file (or two descriptions of a model) disagree
    │   ├── ModelError        the server does not know the model, or cannot serve it this way
    │   ├── OutputError       the output folder is occupied
    │   ├── PlatformError     this machine lacks something (libpython, glibc, a package)
    │   └── AuthError         the server refuses our credentials or our TLS
    ├── DataError             a value that was found while scoring cannot be fed      exit 2
    ├── SourceError           reading input failed after the job had begun            exit 3
    │   ├── ChangedError      an input is not what it was when the job began
    │   └── StaleError        an input is older than allowed
    ├── SinkError             writing output failed: disk full, permission            exit 3
    ├── DamagedError          a part or manifest is not what was written              exit 3
    │   └── MissingError      a part of an unfinished job is, or has gone
    ├── UnfinishedError       parts of a job are missing that others have to make    exit 3
    ├── StoppedError          a run was asked to stop, and did; the job goes on later exit 3
    ├── ServerError           the embedded server                                     exit 3
    │   ├── InstallError      its environment could not be made
    │   ├── StartError        it did not start; carries Triton's own cause lines
    │   └── ServerGoneError   it, or the process that runs the model, died
    ├── OutageError           no server answered for longer than allowed              exit 3
    ├── AnswerError           a server answered OK with a wrong answer                exit 3
    ├── ParityError           an export does not give the source model's answers      exit 4
    └── FailureLimitError     more rows failed than allowed                           exit 4

``retry_helps`` is True where running the same command again, unchanged, may succeed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from tritonbulk.redaction import redact
from tritonbulk.text import printable

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MESSAGE_CHARACTERS_MAX = 2_000
"""Characters of an error's text: a column's name alone may be longer."""


class TritonbulkError(Exception):
    """Base of all errors; its text is one sentence that says what, where and what to do.

    No secret and no control character stands in it, whoever's words it quotes.

    Attributes:
        exit_code: what the command line exits with (see ``docs/cli.md``).
        retry_helps: True if the same call, unchanged, may succeed later.
        quotes_data: True if its text may quote values of rows, so that no log takes it.
        log_text: what a log says instead of such a text; "" if there is nothing to be said.
        segment: index of the segment whose rows it blames; None if it blames none.
    """

    exit_code: int = 3
    retry_helps: bool = False
    quotes_data: bool = False
    log_text: str = ""
    segment: int | None = None

    def __init__(self, message: str) -> None:
        lines = map(printable, redact(message).split("\n"))
        super().__init__(_cut("\n".join(lines)))


_Error = TypeVar("_Error", bound=TritonbulkError)


def quoting(error: _Error, log_text: str) -> _Error:
    """Return an error whose text may quote values of rows, with what a log says instead."""
    error.quotes_data = True
    error.log_text = _cut(printable(redact(log_text)))
    return error


def blaming(error: _Error, segment: int) -> _Error:
    """Return an error that the rows of one segment brought about."""
    error.segment = segment
    return error


def _cut(text: str) -> str:
    """Return ``text`` without its middle if it is too long: the end says what to do."""
    if len(text) <= MESSAGE_CHARACTERS_MAX:
        return text
    half = MESSAGE_CHARACTERS_MAX // 2 - 1
    return f"{text[:half]} … {text[-half:]}"[:MESSAGE_CHARACTERS_MAX]


class UsageError(TritonbulkError):
    """What was asked cannot work; raised before the first row is sent. A retry does not help."""

    exit_code = 2


class OptionError(UsageError):
    """An option, or a combination of options, has no meaning."""


class InputError(UsageError):
    """An input file is missing or unreadable, or a column is missing or has a wrong dtype."""


class ContractError(UsageError):
    """The model's contract and the file, or two descriptions of the model, disagree."""


class ModelError(UsageError):
    """The server does not know this model or version, or cannot serve it in this way."""


class OutputError(UsageError):
    """The output folder cannot be used: it already holds parts."""


class PlatformError(UsageError):
    """This machine lacks something that only its owner can supply; the text names it."""


class AuthError(UsageError):
    """The server refuses our credentials, or the TLS handshake fails."""


class DataError(TritonbulkError):
    """A value that was found while scoring cannot be fed to the model. A retry does not help.

    Parts that were complete by then stand in the output.
    """

    exit_code = 2
    quotes_data = True


class SourceError(TritonbulkError):
    """Reading input failed after the job had begun. A retry may help."""

    retry_helps = True


class ChangedError(SourceError):
    """An input is not what it was when the job began; a retry is refused until it is restored."""

    retry_helps = False


class StaleError(SourceError):
    """An input is older than ``max_age_s``; nothing was sent. A retry helps once it is renewed."""


class SinkError(TritonbulkError):
    """Writing output failed (disk full, permission). A retry helps once the cause is gone."""

    retry_helps = True


class DamagedError(TritonbulkError):
    """A part or a manifest is not what was written; its text says what to do before a retry."""


class MissingError(DamagedError):
    """A part of an unfinished job is damaged or has gone. A retry scores its rows again."""

    retry_helps = True


class UnfinishedError(TritonbulkError):
    """Parts of a job are missing. A retry helps once the shards that owe them have made them.

    Attributes:
        owed: what is missing, see `tritonbulk.job.owed.Owed`.
    """

    retry_helps = True

    def __init__(self, message: str, owed: Sequence[DataclassInstance] = ()) -> None:
        super().__init__(message)
        self.owed = tuple(owed)


class StoppedError(TritonbulkError):
    """A run was asked to stop, and did: whole segments are committed, a retry does the rest."""

    retry_helps = True


class ServerError(TritonbulkError):
    """Something about the embedded server. See the subclasses."""


class InstallError(ServerError):
    """The embedded server's environment could not be made. A retry may help (network, disk)."""

    retry_helps = True


class StartError(ServerError):
    """The embedded server did not start.

    Attributes:
        log_tail: the last lines of the server's log, oldest first; empty if it wrote none.
    """

    def __init__(self, message: str, log_tail: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.log_tail = log_tail


class ServerGoneError(ServerError):
    """The embedded server, or a process that runs a model for it, died. A retry may help."""

    retry_helps = True


class OutageError(TritonbulkError):
    """No server answered for longer than ``max_outage_s``. A retry helps once one does."""

    retry_helps = True


class AnswerError(TritonbulkError):
    """A server answered OK, but with wrong rows, dtype, outputs or version; it was not written."""

    quotes_data = True


class ParityError(TritonbulkError):
    """An export does not give the source model's answers, or its rows influence each other.

    Nothing was published; a retry does not help.
    """

    exit_code = 4


class FailureLimitError(TritonbulkError):
    """More rows failed than the limit allows; a look at server and data comes before a retry."""

    exit_code = 4
    quotes_data = True
