"""A PostgreSQL server of Debian's package, on a Unix socket alone, in a scratch folder.

It refuses to run as root, so root starts it as another user.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WAIT_S = 60.0


def programs() -> Path | None:
    """Return the folder of the server's programs; None where it is not installed."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return folders[-1].parent if folders else None


@contextmanager
def server(*settings: str) -> Iterator[str]:
    """Run a server; gives the URI of an empty database.

    Args:
        settings: more of ``postgresql.conf``, as ``name=value``.
    """
    found = programs()
    assert found is not None, "ask programs() first"
    user = _other_user() if os.getuid() == 0 else None
    # Paths of sockets are short.
    folder = Path(tempfile.mkdtemp(prefix="tb-pg-", dir="/tmp"))
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    who: dict[str, Any] = (
        {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    )
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": str(folder)}

    def run(program: str, *words: str) -> None:
        subprocess.run(
            [str(found / program), *words], cwd=folder, check=True, timeout=WAIT_S, env=environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, **who,
        )  # fmt: skip

    data = str(folder / "data")
    try:
        run("initdb", "-D", data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync")
        given = ["listen_addresses=", f"unix_socket_directories={folder}", *settings]
        options = " ".join(f"-c {each}" if "=" in each[:-1] else f"-c {each}''" for each in given)
        run("pg_ctl", "-D", data, "-o", options, "-l", str(folder / "log"), "-w", "start")
        try:
            yield f"postgresql://tester@/postgres?host={folder}"
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _other_user() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("no user to run a server as")
