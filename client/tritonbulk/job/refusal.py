"""Refusal: what differs between a job that stands there and the one asked for, in words. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tritonbulk.errors import OutputError

DIFFERENCES_SHOWN_MAX = 5
"""Differences, and commands, that a refusal lists."""

_OPTIONS = {
    "input_format": "--format",
    "where": "--where",
    "limit_rows": "--limit",
    "segment_rows": "--segment-rows",
    "batch_rows": "--batch-rows",
    "model.name": "--model",
    "model.version": "--model-version",
    "tensors": "--input-map",
    "output": "--keep, --rename",
    "encoding": "--out-format",
    "vectors": "--vectors",
    "nan": "--nan",
}
"""What the user may have said, by members of a spec."""


def put_back(found: Sequence[str]) -> str:
    """Return how to go on where files differ in their time of change alone; "" elsewhere.

    Size and ends are then the same: somebody may have touched them and nothing more.
    """
    times = [re.fullmatch(r"inputs\[(/.*)\]\.mtime_ns (\d+) → \d+", each) for each in found]
    commands = []
    for each in times:
        if each is None:
            return ""
        seconds, ns = divmod(int(each[2]), 10**9)
        commands.append(f"touch -d @{seconds}.{ns:09d} {shlex.quote(each[1])}")
    shown = "; ".join(commands[:DIFFERENCES_SHOWN_MAX])
    return f"where a file was only touched and holds the same bytes, put its time back ({shown})"


def refusal(name: str, differences: Sequence[str], model: Mapping[str, Any]) -> OutputError:
    """Return the error that says that another job stands at ``name``, and what differs.

    ``model`` is the one of the spec that it was begun with.
    """
    found = differences
    members = {_member(each) for each in found}
    if members & {"where", "tensors", "output"}:
        # Which columns are read follows from these.
        found = [each for each in found if _member(each) != "columns"]
    # Options first: there are few, and they tell more than what was derived from them.
    in_order = sorted(found, key=lambda each: "[" in each.partition(" ")[0])
    shown = "; ".join(_with_options(in_order[:DIFFERENCES_SHOWN_MAX]))
    more = len(found) - DIFFERENCES_SHOWN_MAX
    if more > 0:
        shown += f"; and {more} more"
    hint = ""
    if all(each.startswith("inputs[") and each.endswith("] added") for each in found):
        hint = ", add --only-new to score the added files alone"
    elif again := put_back(differences):
        hint = f", or, {again}"
    return OutputError(
        f"{name} holds another job, which differs in {shown}; run with what it was begun "
        f"with{hint}{model_back(found, model)}, or give another --out"
    )


def model_back(found: Sequence[str], model: Mapping[str, Any]) -> str:
    """Return how the model that a job was begun with is had again; "" where it is no other."""
    members = {each.partition(" ")[0] for each in found}
    name, version = model["name"], model["version"]
    if "model.name" in members:
        return ""
    if "model.version" in members and version:
        return (
            " (a model that was exported again is put back by tritonbulk rollback "
            f"{shlex.quote(name)} --to {version} --repository REPOSITORY)"
        )
    if members & {"model.files_digest", "model.digest"}:
        return f" (model {name!r} has other files under the same version: put the old ones back)"
    if "model.config_digest" in members:
        return f" (model {name!r} is configured otherwise under the same version: change that back)"
    return ""


def _member(difference: str) -> str:
    """Return which member of a spec a difference is in."""
    return re.split(r"[\[. ]", difference, maxsplit=1)[0]


def _with_options(differences: Sequence[str]) -> Iterator[str]:
    """Yield each difference, the last one of an option with its name."""
    options = [_option(each) for each in differences]
    for each, option, following in zip(differences, options, [*options[1:], None], strict=True):
        yield f"{each} ({option})" if option and option != following else each


def _option(difference: str) -> str | None:
    """Return which option a difference is about; None if no one is."""
    place = difference.partition("]")[0]
    if place.startswith("output[") and "_tritonbulk_status" in place:
        is_alone = place == "output[_tritonbulk_status, _tritonbulk_error"
        return "--no-status" if is_alone else "--keep, --rename, --no-status"
    return _OPTIONS.get(difference.partition(" ")[0]) or _OPTIONS.get(_member(difference))
