"""Model files: what the embedded server loads, byte for byte; its name and version are not enough.

Whoever replaces a model file and leaves its version as it is would otherwise go on with the job of
another model. Servers at endpoints do not show their files: there the exporter's digest, which they
tell, is all that is known.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from tritonbulk.errors import InputError, ModelError
from tritonbulk.job.fingerprint import fingerprint

CONFIG = "config.pbtxt"


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of a model's entry, and of those that an ensemble names.

    Attributes:
        digests: hex SHA-256 by path, relative to the repository.
        states: size in bytes and time of change in ns, by the same.
    """

    digests: Mapping[str, str]
    states: Mapping[str, tuple[int, int]]

    def of_version(self, model: str, version: str) -> str:
        """Return ``sha256:`` and the hex digest of what one version is made of.

        The configuration is left out, since what a server makes of it counts.
        """
        return fingerprint(
            {
                path: digest
                for path, digest in self.digests.items()
                if path.startswith(f"{model}/{version}/") or not path.startswith(f"{model}/")
            }
        )


def hash_model(repository: Path, model: str) -> ModelFiles:
    """Read all files of a model; links are followed.

    Raises:
        InputError: one cannot be read; a retry does not help.
    """
    digests, states = {}, {}
    for path in _files(repository, model):
        name = path.relative_to(repository).as_posix()
        try:
            states[name] = _state(path)
            with path.open("rb") as file:
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise InputError(
                f"model file {path} cannot be read ({error.strerror}); check its permissions"
            ) from error
    return ModelFiles(digests, states)


def check_loaded(repository: Path, model: str, files: ModelFiles) -> None:
    """Check that no file has changed while the server loaded them.

    Raises:
        ModelError: one has; a retry takes the new one.
    """
    now = {path.relative_to(repository).as_posix(): path for path in _files(repository, model)}
    for name in sorted(files.states.keys() | now.keys()):
        if name not in now or _state(now[name]) != files.states.get(name):
            raise ModelError(
                f"model file {repository / name} changed while the server started; run again once "
                "nothing writes there, and give changed models a version of their own"
            )


def _files(repository: Path, model: str) -> Iterator[Path]:
    """Yield the files of an entry, and of those that it names as steps, in order of their paths."""
    wanted, seen = [model], set()
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        for folder, folders, names in os.walk(repository / name, followlinks=True):
            folders[:] = sorted(each for each in folders if each != "__pycache__")
            for each in sorted(names):
                if (path := Path(folder, each)).is_file():
                    yield path
        wanted += _steps(repository / name / CONFIG)


def _steps(config: Path) -> list[str]:
    """Return the models that an ensemble is made of."""
    try:
        settings = text_format.Parse(config.read_text(), model_config_pb2.ModelConfig())
    except (OSError, UnicodeError, text_format.ParseError):
        return []  # the server is who judges it
    return [step.model_name for step in settings.ensemble_scheduling.step]


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
