"""Our own parsers, as functions of bytes that may raise nothing but what they promise.

python tests/hostile/parsers.py PARSER SECONDS [CORPUS]      fuzz one of them with atheris
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pyarrow as pa
from pyarrow import fs

from tritonbulk.codec import Reply, ResponseDecoder
from tritonbulk.codec.text import decode_texts
from tritonbulk.codec.wire import split_response, split_stream_reply
from tritonbulk.contract import Contract, OutputTensor, datatype
from tritonbulk.errors import AnswerError, TritonbulkError
from tritonbulk.job.manifest import read_manifest
from tritonbulk.job.spec import read_job
from tritonbulk.job.statement import read_part
from tritonbulk.polite import parse_yield_to
from tritonbulk.profile import parse_profile
from tritonbulk.redaction import redact
from tritonbulk.source import jsonl
from tritonbulk.source.reader import InputFile
from tritonbulk.source.where import make_filter
from tritonbulk.text import SAID_CHARACTERS_MAX, said

SCHEMA = pa.schema([("a", pa.int64()), ("b", pa.string()), ("c d", pa.float32())])
OUTPUTS = (
    OutputTensor("y", datatype("FP32"), (2,)),
    OutputTensor("words", datatype("BYTES"), (1,)),
    OutputTensor("free", datatype("INT64"), (-1,)),
)
FILE = InputFile("rows.jsonl", fs.LocalFileSystem(), "rows.jsonl", "jsonl")


def _words(data: bytes) -> None:
    words = said(data.decode(errors="surrogateescape"))
    assert words.isprintable()
    assert len(words) <= SAID_CHARACTERS_MAX
    redact(words)


def _where(data: bytes) -> None:
    with contextlib.suppress(pa.ArrowException):
        make_filter(data.decode(errors="replace"), SCHEMA)


def _jsonl(data: bytes) -> None:
    for block in jsonl._blocks(FILE, pa.BufferReader(data)):
        jsonl._parse(FILE, block, None, 0)


def _texts(data: bytes) -> None:
    decode_texts(memoryview(data), "words", 3)


PARSERS: dict[str, tuple[Callable[[bytes], object], tuple[type[Exception], ...]]] = {
    "an answer": (
        lambda data: ResponseDecoder(OUTPUTS, "1").decode(Reply(data), 3), (AnswerError,)
    ),
    "an answer's fields": (split_response, (AnswerError,)),
    "a stream's reply": (split_stream_reply, (AnswerError,)),
    "texts of an answer": (_texts, (AnswerError,)),
    "a contract": (lambda data: Contract.from_json(data.decode("utf-8", "replace")),
                   (TritonbulkError,)),
    "a manifest": (lambda data: read_manifest(data, "here"), (TritonbulkError,)),
    "a job file": (lambda data: read_job(data, "here"), (TritonbulkError,)),
    "a part's statement": (read_part, (TritonbulkError,)),
    "a profile": (lambda data: parse_profile(data.decode("utf-8", "replace")),
                  (LookupError, TypeError, ValueError, RecursionError)),
    "a filter": (_where, (TritonbulkError,)),
    "JSON Lines": (_jsonl, (TritonbulkError,)),
    "a limit for others": (lambda data: parse_yield_to(data.decode("utf-8", "replace")),
                           (TritonbulkError,)),
    "a server's words": (_words, ()),
}  # fmt: skip


def parse(name: str, data: bytes) -> None:
    """Run a parser; what it promises to raise is fine."""
    parser, promised = PARSERS[name]
    with contextlib.suppress(*promised):
        parser(data)
