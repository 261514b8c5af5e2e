"""Rules of folders and files: what Triton takes for a model, a version, a model's file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tritonbulk_export.lint.backends import (
    ENSEMBLE,
    MODEL_FILES,
    backend_of,
    model_file,
)
from tritonbulk_export.lint.reading import SPECIAL_FOLDERS, VERSION_MAX, Entry
from tritonbulk_export.lint.rules import Finding, found

_LEFTOVERS = ("*.swp", "*.swo", "*~", "*.part", "*.tmp", ".#*", "#*#", ".nfs*")
FILES_MAX = 10_000
"""Files and folders of one entry that are looked at for links and left-overs."""


def check_folders(entry: Entry) -> Iterator[Finding]:
    """Yield what is wrong with an entry's name, folders and files."""
    if entry.broken:
        yield found("R102", entry.place, entry.broken)
        return
    backend = backend_of(entry)
    if not entry.has_config and not _has_model_file(entry):
        yield found("R101", entry.name, "it has no config.pbtxt and no model")
        return
    if entry.config.name and entry.config.name != entry.name:
        yield found("R103", entry.place, f"the name is {entry.config.name!r}")
    if not backend:
        yield found("R111", entry.place, "no backend is written, and the files do not tell it")
    yield from _check_versions(entry)
    yield from _check_model_files(entry, backend)
    yield from _check_inside(entry)


def _has_model_file(entry: Entry) -> bool:
    return any(
        (entry.folder / name / file).exists()
        for name in entry.subfolders
        for file in MODEL_FILES.values()
    )


def _check_versions(entry: Entry) -> Iterator[Finding]:
    served = entry.served()
    numbers = entry.numbers()
    for name in entry.subfolders:
        if name in SPECIAL_FOLDERS:
            continue
        number = numbers.get(name)
        place = f"{entry.name}/{name}"
        if number is None:
            yield found("R107", place, "a folder that is no version")
        elif abs(number) > VERSION_MAX:
            yield found("R105", place, f"{len(name)} digits")
        elif str(number) != name:
            if number in served and str(number) not in entry.subfolders:
                yield found("R106", place, f"it would be served as version {number}")
            else:
                yield found("R107", place, f"its name begins like version {number}")
    if not served:
        yield found("R104", entry.place, "there is no version to serve")
        return
    specific = entry.config.version_policy.specific.versions
    for version in sorted(set(specific) - set(served)):
        yield found("R108", entry.place, f"version {version} has no folder")


def _check_model_files(entry: Entry, backend: str) -> Iterator[Finding]:
    file = model_file(entry.config, backend)
    if backend in ("", ENSEMBLE) or not file:
        return
    config = entry.config
    if not (config.backend or config.platform or config.default_model_filename):
        first = entry.subfolders[0]
        if first not in map(str, entry.served()):
            yield found("R113", entry.name, f"the first folder is {first!r}")
    names = [file, *config.cc_model_filenames.values()]
    for version in entry.served():
        folder = entry.folder / str(version)
        if not folder.is_dir():
            continue
        for name in names if backend == "tensorrt" and len(names) > 1 else names[:1]:
            if not _inside(folder / name, folder) or not (folder / name).exists():
                yield found("R112", f"{entry.name}/{version}", f"{name!r} is missing")


def _inside(path: Path, folder: Path) -> bool:
    """Return whether a name from a configuration stays below ``folder``, links apart."""
    return path.is_relative_to(folder) and ".." not in path.relative_to(folder).parts


def _is_below(path: Path, repository: Path) -> bool:
    try:
        return path.resolve().is_relative_to(repository)
    except (OSError, RuntimeError):  # links in a circle
        return False


def _check_inside(entry: Entry) -> Iterator[Finding]:
    repository = entry.folder.parent.resolve()
    looked = 0
    for folder, folders, files in os.walk(entry.folder):
        for name in (*folders, *files):
            looked += 1
            if looked > FILES_MAX:
                return
            path = Path(folder, name)
            place = f"{entry.name}/{path.relative_to(entry.folder)}"
            if path.is_symlink() and not _is_below(path, repository):
                yield found("R109", place, "a symbolic link")
            elif name in files and any(path.match(pattern) for pattern in _LEFTOVERS):
                yield found("R110", place, "a left-over file")
