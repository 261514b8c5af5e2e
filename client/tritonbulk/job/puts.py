"""Puts: one object put, read or asked for, for as long as a store may need to answer.

A put is followed by a look at what stands there; only what was read from the store counts.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from tritonbulk.errors import DamagedError, SinkError
from tritonbulk.job.protocol import Put
from tritonbulk.job.stores.base import Store, UnsureError

PAUSES_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Pauses between attempts where a store does not answer, or does not say what became of a put."""

_Judged = TypeVar("_Judged")


def settle(
    store: Store,
    name: str,
    data: bytes,
    judge: Callable[[bytes], _Judged],
    sleep: Callable[[float], None],
) -> _Judged:
    """Put an object, read what stands there then, and return what ``judge`` makes of it.

    Raises:
        SinkError: it does not appear; a retry helps once the cause is gone.
    """
    outcome = Put.UNKNOWN
    for pause_s in (*PAUSES_S, None):
        outcome = store.create(name, data)
        found = answer_of(partial(store.read, name), sleep)
        if found is not None:
            return judge(found)
        if pause_s is not None:
            sleep(pause_s)
    raise SinkError(
        f"{store.name}/{name} did not appear after {len(PAUSES_S) + 1} attempts (the last one: "
        f"{outcome.name.lower()}); check the store, then run again"
    )


def answer_of(question: Callable[[], _Judged], sleep: Callable[[float], None]) -> _Judged:
    """Return the answer of a store, asked again for a while where it does not answer.

    Raises:
        SinkError: it does not; a retry helps once the cause is gone.
    """
    for pause_s in PAUSES_S:
        try:
            return question()
        except UnsureError:
            sleep(pause_s)
    return question()


def read_listed(
    store: Store, entry: Mapping[str, Any], sleep: Callable[[float], None] = time.sleep
) -> bytes:
    """Return the bytes of a part, which are those that its entry in a manifest lists.

    Raises:
        DamagedError: they are not, or it has gone; a retry does not help.
        SinkError: it cannot be read; a retry helps once the cause is gone.
    """
    data = read_object(store, entry["name"], sleep)
    if (len(data), hashlib.sha256(data).hexdigest()) != (entry["bytes"], entry["sha256"]):
        raise DamagedError("its bytes are not those of the manifest")
    return data


def read_object(store: Store, name: str, sleep: Callable[[float], None] = time.sleep) -> bytes:
    """Return the bytes of an object that must be there.

    Raises:
        DamagedError: it is not; a retry does not help.
        SinkError: it cannot be read; a retry helps once the cause is gone.
    """
    data = answer_of(partial(store.read, name), sleep)
    if data is None:
        raise DamagedError("it is missing")
    return data
