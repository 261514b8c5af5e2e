"""Going back: to a version that stands in the entry, or to what was there before a publication."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tritonbulk.contract import CONTRACT_PARAMETER, Contract
from tritonbulk.errors import OutputError, SinkError
from tritonbulk_export.config import MODEL_FILE, comments_of, from_text, to_text
from tritonbulk_export.content import check_staged
from tritonbulk_export.entry_files import (
    CONFIG_FILE,
    SNAPSHOT_FILES,
    add_pins,
    check_no_links,
    pinned_versions,
    read_config,
    served_version,
    versions_of,
)
from tritonbulk_export.publish import Published, check_name
from tritonbulk_export.storage import (
    files_digest,
    move_into,
    read_files,
    repository_lock,
    staging_folder,
    write_file,
)
from tritonbulk_export.warmup import FOLDER as WARM_UP_FOLDER


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What a rollback did.

    Attributes:
        version: that is served now.
        before: that was served; the same if nothing was to be done.
        max_batch_size: of the version that is served now.
        golden_rows_loaded: that a running server answered rightly; None where none was named.
    """

    version: int
    before: int
    max_batch_size: int
    golden_rows_loaded: int | None = None


def rollback(
    repository: Path, model: str, version: int | None = None, staging: Path | None = None
) -> RolledBack:
    """Serve another version of an entry again, with the configuration it was published with.

    Atomic as publication is: the configuration is replaced last.

    Args:
        repository: the model repository.
        model: name of the entry.
        version: to serve; None: the newest below the one that is served.
        staging: see `publish.publish`.

    Raises:
        OptionError: the name cannot be one of an entry. No retry.
        OutputError: there is no such version, or it is not whole. No retry.
        ModelError: lint finds that Triton would refuse it. No retry.
        SinkError: writing failed; a retry may help.
    """
    check_name(model)
    entry = repository.resolve() / model
    if not entry.is_dir():
        raise OutputError(f"{repository} has no entry {model!r}; give one that export published")
    try:
        with (
            repository_lock(entry.parent),
            staging_folder(entry.parent, staging) as folder,
        ):
            check_no_links(entry)
            config, _ = read_config(entry)
            served = served_version(config)
            wanted = _wanted(entry, served, version)
            if wanted != served:
                _bring_back(entry, wanted, folder)
            return RolledBack(wanted, served, read_config(entry)[0].max_batch_size)
    except OSError as error:
        raise SinkError(
            f"cannot roll {entry} back: {error.strerror or error}; mend the cause and try again"
        ) from error


def retract(repository: Path, model: str, done: Published, staging: Path | None = None) -> None:
    """Undo a publication: what it replaced comes back, and its version leaves the entry.

    Raises:
        SinkError: writing failed; a retry may help.
    """
    entry = repository.resolve() / model
    try:
        with repository_lock(entry.parent), staging_folder(entry.parent, staging) as folder:
            if not done.before:
                entry.rename(folder / model)
                return
            # The configuration first: it names a version that is still there.
            for name in reversed(SNAPSHOT_FILES):
                if name in done.before:
                    write_file(folder / name, done.before[name])
                    move_into(folder / name, entry)
            if done.is_new:
                (entry / str(done.version)).rename(folder / str(done.version))
                for path in (entry / WARM_UP_FOLDER).glob(f"{done.version}_*.bin"):
                    path.unlink()
    except OSError as error:
        raise SinkError(
            f"cannot take version {done.version} of {entry} back: {error.strerror or error}"
        ) from error


def _wanted(entry: Path, served: int, version: int | None) -> int:
    there = [each for each in versions_of(entry) if _is_whole(entry, each)]
    pins = pinned_versions(entry)
    if version is None:
        older = [each for each in there if each < served]
        if not older:
            raise OutputError(
                f"{entry} has no version below {served}, which is served; {_list(there)}"
            )
        version = older[-1]
    if version != served and version not in there:
        raise OutputError(f"{entry} has no version {version} to serve; {_list(there)}")
    if pins and pins[-1] > version:
        raise OutputError(
            f"an ensemble beside {entry} asks for version {pins[-1]}; roll it back first"
        )
    return version


def _list(versions: Sequence[int]) -> str:
    return f"versions that can be served: {', '.join(map(str, versions)) or 'none'}"


def _is_whole(entry: Path, version: int) -> bool:
    """Return whether a version's folder has all that describes it, and the model it describes."""
    folder = entry / str(version)
    if not all((folder / name).is_file() for name in SNAPSHOT_FILES):
        return False
    config = from_text((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    if config.HasField("ensemble_scheduling"):
        return True
    contract = Contract.from_json(config.parameters[CONTRACT_PARAMETER].string_value)
    plans = sorted(set(config.cc_model_filenames.values()))
    if plans:
        if not all((folder / name).is_file() for name in plans):
            return False
        files = {name: (folder / name).read_bytes() for name in plans}
    else:
        files = dict(read_files(folder, MODEL_FILE))
    return bool(files) and files_digest(files) == contract.digest


def _with_pins(text: str, pins: Sequence[int]) -> str:
    if not pins:
        return text
    config = from_text(text)
    add_pins(config, pins)
    return comments_of(text) + to_text(config)


def _bring_back(entry: Path, version: int, folder: Path) -> None:
    staged = folder / entry.name
    staged.mkdir()
    for path in entry.iterdir():
        if path.name not in SNAPSHOT_FILES:
            (staged / path.name).symlink_to(path)
    for name in SNAPSHOT_FILES:
        data = (entry / str(version) / name).read_bytes()
        if name == CONFIG_FILE:
            data = _with_pins(data.decode(), pinned_versions(entry)).encode()
        write_file(staged / name, data)
    check_staged(staged, entry.parent)
    for name in SNAPSHOT_FILES:
        move_into(staged / name, entry)
