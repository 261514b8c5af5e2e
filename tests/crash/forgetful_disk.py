"""The file system that forgets, as the process that serves it through FUSE.

    python -m tests.crash.forgetful_disk MOUNT_POINT STATES [OPERATION NUMBER ERRNO]

It serves until it is unmounted. The NUMBER-th OPERATION from the beginning fails.

The last line of STATES is what there is in the beginning; in the end the file holds that line and
one for each state that a crash could have left since then, in order. See `tests.crash.forgetful`.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import mfusepy

from tests.crash.forgetful import State, read_states, write_states


class Node:
    """A file or a folder."""

    def __init__(self, *, is_folder: bool, durable: bytes = b"") -> None:
        self.is_folder = is_folder
        self.content = bytearray(durable)
        self.durable = durable
        self.links = 1


class Forgetful(mfusepy.Operations):
    """Names and contents as they are, and as a crash would leave them."""

    use_ns = True

    def __init__(self, begin: State) -> None:
        self.names: dict[str, Node] = {"/": Node(is_folder=True)}
        for path, data in begin.items():
            self.names[path] = Node(is_folder=data is None, durable=data or b"")
        self.durable_names = dict(self.names)
        self.open_nodes: dict[int, Node] = {}
        self.handles = 0
        self.states = [begin]

    def node(self, path: str) -> Node:
        try:
            return self.names[path]
        except KeyError:
            raise mfusepy.FuseOSError(errno.ENOENT) from None

    def add(self, path: str, node: Node) -> None:
        self.node(str(PurePosixPath(path).parent))
        if path in self.names:
            raise mfusepy.FuseOSError(errno.EEXIST)
        self.names[path] = node

    def hand_out(self, node: Node) -> int:
        self.handles += 1
        self.open_nodes[self.handles] = node
        return self.handles

    def remember(self) -> None:
        """Keep the state that a crash at this moment would leave."""
        state: State = {}
        for path, node in sorted(self.durable_names.items()):
            parent = str(PurePosixPath(path).parent)
            if path != "/" and (parent == "/" or parent in state):
                state[path] = None if node.is_folder else node.durable
        if state != self.states[-1]:
            self.states.append(state)

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        node = self.open_nodes[fh] if fh in self.open_nodes else self.node(path)
        kind = stat.S_IFDIR if node.is_folder else stat.S_IFREG
        mode = kind | (0o755 if node.is_folder else 0o644)
        return {"st_mode": mode, "st_nlink": node.links, "st_size": len(node.content)}

    def readdir(self, path: str, fh: int) -> list[str]:
        inside = [PurePosixPath(each) for each in self.names if each != "/"]
        return [".", "..", *(each.name for each in inside if str(each.parent) == path)]

    def opendir(self, path: str) -> int:
        return self.hand_out(self.node(path))

    def releasedir(self, path: str, fh: int) -> int:
        self.open_nodes.pop(fh, None)
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        self.add(path, Node(is_folder=True))
        return 0

    def rmdir(self, path: str) -> int:
        if any(str(PurePosixPath(each).parent) == path for each in self.names if each != "/"):
            raise mfusepy.FuseOSError(errno.ENOTEMPTY)
        del self.names[path]
        return 0

    def create(self, path: str, mode: int, fi: object = None) -> int:
        node = Node(is_folder=False)
        self.add(path, node)
        return self.hand_out(node)

    def open(self, path: str, flags: int) -> int:
        node = self.node(path)
        if flags & os.O_TRUNC:
            node.content.clear()
        return self.hand_out(node)

    def release(self, path: str, fh: int) -> int:
        self.open_nodes.pop(fh, None)
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return bytes(self.open_nodes[fh].content[offset : offset + size])

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        content = self.open_nodes[fh].content
        content.extend(b"\0" * (offset - len(content)))
        content[offset : offset + len(data)] = data
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        content = (self.open_nodes[fh] if fh else self.node(path)).content
        del content[length:]
        content.extend(b"\0" * (length - len(content)))
        return 0

    def link(self, target: str, source: str) -> int:
        node = self.node(source)
        self.add(target, node)
        node.links += 1
        return 0

    def unlink(self, path: str) -> int:
        self.node(path).links -= 1
        del self.names[path]
        return 0

    def rename(self, old: str, new: str) -> int:
        self.names[new] = self.names.pop(old)
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        node = self.open_nodes[fh]
        node.durable = bytes(node.content)
        self.remember()
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        for names in (self.durable_names, self.names):
            inside = [
                each for each in names if each != "/" and str(PurePosixPath(each).parent) == path
            ]
            if names is self.durable_names:
                for each in inside:
                    del names[each]
            else:
                self.durable_names.update((each, names[each]) for each in inside)
        self.remember()
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        return {"f_bsize": 4096, "f_blocks": 2**20, "f_bavail": 2**20, "f_bfree": 2**20}


def let_fail(files: Forgetful, operation: str, number: int, error: int) -> None:
    """Make the ``number``-th of an operation fail."""
    carry_out, done = getattr(files, operation), 0

    def perhaps(*given: Any) -> Any:
        nonlocal done
        done += 1
        if done == number:
            raise mfusepy.FuseOSError(error)
        return carry_out(*given)

    setattr(files, operation, perhaps)


def main() -> None:
    """Serve until unmounted, then write the states."""
    states = Path(sys.argv[2])
    files = Forgetful(read_states(states)[-1])
    if sys.argv[3:]:
        let_fail(files, sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    mfusepy.FUSE(files, sys.argv[1], foreground=True, nothreads=True)
    write_states(states, files.states)


if __name__ == "__main__":
    main()
