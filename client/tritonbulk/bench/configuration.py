"""Configuration: a variant of the server as an edit of Triton's ``ModelConfig``. Pure."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from typing import TypeAlias

from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

from tritonbulk.bench.setting import UNKNOWN, Variant
from tritonbulk.errors import InputError
from tritonbulk.server.overrides import Overrides, override

Config: TypeAlias = model_config_pb2.ModelConfig
"""Triton's own message; its types are not published."""


def variant_of(config: Config, version: str) -> Variant:
    """Return how a model is configured."""
    dynamic = config.HasField("dynamic_batching")
    delay_us = config.dynamic_batching.max_queue_delay_microseconds if dynamic else -1
    groups = (group for group in config.instance_group if not group.passive)
    # ``count`` is of each GPU that a group names (model_config.proto).
    instances = sum(group.count * max(len(group.gpus), 1) for group in groups)
    return Variant(instances, delay_us, config.max_batch_size, version)


def with_variant(config: Config, wanted: Variant, base: Variant) -> Config:
    """Return a configuration that differs from ``config`` in what ``wanted`` changes of ``base``.

    Instances are shared out evenly over the groups' devices, at least one for each. Preferred batch
    sizes above a new limit, which Triton would refuse, are left out.
    """
    edited = Config()
    edited.CopyFrom(config)
    if wanted.instances not in (base.instances, UNKNOWN):
        groups = [g for g in edited.instance_group if not g.passive]
        groups = groups or [edited.instance_group.add()]
        devices = sum(max(len(group.gpus), 1) for group in groups)
        for group in groups:
            group.count = max(wanted.instances // devices, 1)
    delay, limit = wanted.queue_delay_us, wanted.max_batch_size
    changes = Overrides(
        queue_delay_us=None if delay == base.queue_delay_us else max(delay, -1),
        max_batch_size=None if limit == base.max_batch_size else limit,
    )
    override(edited, changes)
    if wanted.version != base.version:
        edited.version_policy.specific.versions[:] = [int(wanted.version)]
    return edited


def to_json(config: Config) -> str:
    """Return the form in which Triton's load call takes a configuration."""
    return json_format.MessageToJson(config, preserving_proto_field_name=True, indent=None)


def from_json(text: str) -> Config:
    """Return the configuration in what `to_json` gave.

    Raises:
        InputError: it is something else.
    """
    try:
        return json_format.Parse(text, Config())
    except json_format.ParseError as error:
        raise InputError(f"no configuration of a model: {error}") from error


def parse_text(text: str, name: str) -> Config:
    """Return the configuration in the text of a ``config.pbtxt``.

    Args:
        text: of the file.
        name: of the file, for the error.

    Raises:
        InputError: it cannot be parsed; a retry does not help.
    """
    try:
        return text_format.Parse(text, Config())
    except text_format.ParseError as error:
        raise InputError(f"{name} cannot be parsed ({error}); mend it first") from error


def to_text(config: Config, before: str = "") -> str:
    """Return a configuration as the text of a ``config.pbtxt``.

    Args:
        config: what to write.
        before: the file's text until now. Its comments stay where they were: those before the n-th
            field of a name go before the n-th such field, those at the end to the end.
    """
    comments, last = _comments(before)
    seen: Counter[str] = Counter()
    lines: list[str] = []
    for line in str(text_format.MessageToString(config)).splitlines():
        if name := _field(line):
            lines += comments.get((name, seen[name]), [])
            seen[name] += 1
        lines.append(line)
    return "\n".join([*lines, *last]) + "\n"


def _comments(text: str) -> tuple[dict[tuple[str, int], list[str]], list[str]]:
    """Return the whole-line comments before each field of the message, and those at its end."""
    found: dict[tuple[str, int], list[str]] = {}
    seen: Counter[str] = Counter()
    waiting: list[str] = []
    for line in text.splitlines():
        if line.startswith("#"):
            waiting.append(line)
        elif name := _field(line):
            found[name, seen[name]] = waiting
            waiting = []
            seen[name] += 1
    return found, waiting


def _field(line: str) -> str:
    """Return the name of the field of the message itself that begins in a line, or "" for none."""
    found = re.match(r"([a-z_]+)\s*[:{\[]", line)
    return found[1] if found else ""


def difference(before: str, after: str, name: str) -> str:
    """Return what changes between two texts, as a unified diff; "" for nothing."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True),
        after.splitlines(keepends=True),
        f"{name} (now)",
        f"{name} (recommended)",
    )
    return "".join(lines)
