"""A small TOML file whose fields replace those of a model configuration.

The file's tables are those of Triton's ``ModelConfig``: numbers, texts and truth values replace,
tables are merged, lists replace the whole list. Types are checked against the protobuf description,
so that text is never taken for a number; fields that the model itself decides are refused::

    max_batch_size = 512
    [[instance_group]]
    count = 2
    kind = "KIND_CPU"
    [dynamic_batching]
    max_queue_delay_microseconds = 2000
    [parameters]
    intra_op_thread_count = "2"
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from tritonclient.grpc import model_config_pb2 as pb

from tritonbulk.contract import CONTRACT_PARAMETER
from tritonbulk.errors import InputError, OptionError
from tritonbulk_export.serving import INSTANCES_MAX, MAX_BATCH_SIZE_MAX

BYTES_MAX = 1 << 20
RESERVED_PARAMETERS = (CONTRACT_PARAMETER, "tritonbulk_sha256")
_FIXED = {
    "name": "--name decides it",
    "platform": "the backend is onnxruntime",
    "backend": "the backend is onnxruntime",
    "runtime": "the backend is onnxruntime",
    "input": "the model decides it",
    "output": "the model decides it",
    "batch_input": "the model decides it",
    "batch_output": "the model decides it",
    "default_model_filename": "export decides it",
    "cc_model_filenames": "the TensorRT kit decides it",
    "version_policy": "publishing and rollback decide it",
    "sequence_batching": "rows are scored each by itself, in any order",
    "model_transaction_policy": "a request has one answer; decoupled models cannot be scored",
    "model_repository_agents": "they change what is loaded after it was proved",
    "ensemble_scheduling": "tritonbulk export pipeline decides it",
}
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_FLOATS = (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)


def read_overrides(path: Path) -> Mapping[str, Any]:
    """Return the tables of the TOML file ``path``.

    Raises:
        InputError: it cannot be read, or is no TOML; a retry does not help.
        OptionError: see `apply_overrides`.
    """
    try:
        if path.stat().st_size > BYTES_MAX:
            raise InputError(f"--config {path} is larger than 1 MiB; give a small TOML file")
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(f"--config {path} cannot be read: {reason}; give a TOML file") from error
    # What has no meaning is said before the model is proved, not after.
    apply_overrides(pb.ModelConfig(), values, f"--config {path}")
    return values


def apply_overrides(config: pb.ModelConfig, values: Mapping[str, Any], where: str) -> list[str]:
    """Merge ``values`` into ``config`` and return the names of the fields that were given.

    Raises:
        OptionError: a field is unknown, of another type, out of bounds, or not for users to
            change. No retry.
    """
    for name in values:
        if name in _FIXED:
            raise OptionError(f"{where}: {name} cannot be overridden: {_FIXED[name]}")
    for name in values.get("parameters", ()):
        if name in RESERVED_PARAMETERS:
            raise OptionError(f"{where}: parameters.{name} is written by export alone")
    _merge(config, values, where, "")
    if "max_batch_size" in values:
        _check_bounds(where, "max_batch_size", config.max_batch_size, 1, MAX_BATCH_SIZE_MAX)
    for number, group in enumerate(config.instance_group):
        # 0 is what Triton takes for its own default.
        _check_bounds(where, f"instance_group[{number}].count", group.count, 0, INSTANCES_MAX)
    return sorted(values)


def _check_bounds(where: str, at: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise OptionError(f"{where}: {at} {value} is not between {least:,} and {most:,}")


def _merge(message: Message, values: Mapping[str, Any], where: str, path: str) -> None:
    fields = message.DESCRIPTOR.fields_by_name
    for name, value in values.items():
        at = f"{path}{name}"
        if name not in fields:
            raise OptionError(
                f"{where}: {at} is no field of Triton's model configuration; known here: "
                f"{', '.join(sorted(set(fields) - (set(_FIXED) if not path else set())))}"
            )
        _set(message, fields[name], value, where, at)


def _set(message: Message, field: FieldDescriptor, value: Any, where: str, at: str) -> None:
    is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
    if is_map:
        _set_map(message, field, _table(value, where, at), where, at)
    elif field.is_repeated:
        if not isinstance(value, list):
            raise OptionError(f"{where}: {at} is a list; write [ … ] or [[{at}]]")
        message.ClearField(field.name)
        for number, each in enumerate(value):
            here = f"{at}[{number}]"
            if field.message_type is None:
                getattr(message, field.name).append(_scalar(field, each, where, here))
            else:
                added = getattr(message, field.name).add()
                _merge(added, _table(each, where, here), where, f"{here}.")
    elif field.message_type is not None:
        child = getattr(message, field.name)
        child.SetInParent()
        _merge(child, _table(value, where, at), where, f"{at}.")
    else:
        setattr(message, field.name, _scalar(field, value, where, at))


def _set_map(
    message: Message, field: FieldDescriptor, table: Mapping[str, Any], where: str, at: str
) -> None:
    key_field = field.message_type.fields_by_name["key"]
    value_field = field.message_type.fields_by_name["value"]
    target = getattr(message, field.name)
    for text, value in table.items():
        here = f"{at}.{text}"
        key = text if key_field.cpp_type == FieldDescriptor.CPPTYPE_STRING else _number(text, here)
        if value_field.message_type is None:
            target[key] = _scalar(value_field, value, where, here)
        elif value_field.message_type.name == "ModelParameter":
            if not isinstance(value, str):
                raise OptionError(f'{where}: {here} is a text in Triton; write "{value}"')
            target[key].string_value = value
        else:
            target[key].Clear()
            _merge(target[key], _table(value, where, here), where, f"{here}.")


def _number(text: str, at: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise OptionError(f"{at}: its key must be a whole number")
    return int(text)


def _table(value: Any, where: str, at: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise OptionError(f"{where}: {at} is a table, not {value!r}; write [{at}]")
    return value


def _scalar(field: FieldDescriptor, value: Any, where: str, at: str) -> Any:
    """Return ``value`` if it is of the field's own type: nothing is converted."""
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_BOOL and isinstance(value, bool):
        return value
    if kind == FieldDescriptor.CPPTYPE_STRING and isinstance(value, str):
        return value
    if kind == FieldDescriptor.CPPTYPE_ENUM and isinstance(value, str):
        names = field.enum_type.values_by_name
        if value in names:
            return names[value].number
        raise OptionError(f"{where}: {at} is one of {', '.join(names)}, not {value!r}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        if kind in _FLOATS:
            return float(value)
        least, most = _INTEGERS.get(kind, (1, 0))
        if isinstance(value, int) and least <= value <= most:
            return value
    raise OptionError(f"{where}: {at} cannot be {value!r}; it is of type {_type_name(field)}")


def _type_name(field: FieldDescriptor) -> str:
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return "true or false"
    if field.cpp_type in (FieldDescriptor.CPPTYPE_STRING, FieldDescriptor.CPPTYPE_ENUM):
        return "text"
    if field.cpp_type in _FLOATS:
        return "number"
    return "whole number of {} to {}".format(*_INTEGERS[field.cpp_type])
