"""What stands in a repository, read once; everything after this is pure but for model files."""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from tritonbulk.errors import InputError

CONFIG_FILE = "config.pbtxt"
CONFIG_BYTES_MAX = 16 << 20
SPECIAL_FOLDERS = frozenset({"warmup", "initial_state", "configs"})
"""Folders of an entry that Triton never takes for versions."""

VERSION_MAX = 2**63 - 1
_STOLL = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)")
"""What C's ``stoll`` reads of a text: the number in front."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One folder of a repository.

    Attributes:
        name: of the folder.
        folder: itself.
        config: as its ``config.pbtxt`` says; an empty one if there is none.
        broken: why the configuration cannot be read; "" if it can, or if there is none.
        has_config: whether there is a ``config.pbtxt``.
        subfolders: names of its folders, sorted.
    """

    name: str
    folder: Path
    config: pb.ModelConfig
    broken: str
    has_config: bool
    subfolders: tuple[str, ...]

    @property
    def place(self) -> str:
        """What findings call its configuration."""
        return f"{self.name}/{CONFIG_FILE}"

    def numbers(self) -> Mapping[str, int]:
        """Return the numbers that Triton reads in the names of its folders."""
        return {
            name: number
            for name in self.subfolders
            if name not in SPECIAL_FOLDERS and (number := version_number(name)) is not None
        }

    def served(self) -> tuple[int, ...]:
        """Return the versions that the version policy serves, as Triton counts them."""
        there = sorted({n for n in self.numbers().values() if abs(n) <= VERSION_MAX}, reverse=True)
        policy = self.config.version_policy
        if policy.HasField("specific"):
            return tuple(v for v in dict.fromkeys(policy.specific.versions) if v in there)
        if policy.HasField("all"):
            return tuple(there)
        return tuple(there[: policy.latest.num_versions if policy.HasField("latest") else 1])


def version_number(name: str) -> int | None:
    """Return the version that Triton reads in a folder's name; None if it ignores the folder."""
    if len(name) > 1 and name.startswith("0"):
        return None
    match = _STOLL.match(name)
    return None if match is None else int(match[1])


def read_repository(repository: Path) -> tuple[Entry, ...]:
    """Return the entries of ``repository`` by name.

    Raises:
        InputError: it is no folder, cannot be read, or has no entry; a retry does not help.
    """
    try:
        folders = sorted(path for path in repository.iterdir() if path.is_dir())
    except OSError as error:
        raise InputError(
            f"{repository} is not a model repository that can be read: {error.strerror or error}"
        ) from error
    if not folders:
        raise InputError(f"{repository} has no model entry: one folder for each model is expected")
    return tuple(read_entry(folder) for folder in folders)


def read_entry(folder: Path) -> Entry:
    """Return what stands in the entry ``folder``."""
    config, broken, has_config = pb.ModelConfig(), "", True
    path = folder / CONFIG_FILE
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            broken = "it is no file"
        elif path.stat().st_size > CONFIG_BYTES_MAX:
            broken = f"it is larger than {CONFIG_BYTES_MAX >> 20} MiB"
        else:
            text_format.Parse(path.read_bytes().decode("utf-8"), config)
    except FileNotFoundError:
        has_config = False
    except (OSError, UnicodeDecodeError, text_format.ParseError, RecursionError) as error:
        broken = str(error).splitlines()[0][:300] or type(error).__name__
        config = pb.ModelConfig()
    try:
        subfolders = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir()))
    except OSError as error:
        subfolders, broken = (), broken or f"the folder cannot be read ({error.strerror})"
    return Entry(folder.name, folder, config, broken, has_config, subfolders)
