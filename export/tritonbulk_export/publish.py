"""Publication: a finished entry or version appears in the repository in one step, or not at all.

Everything is put together beside the repository and judged by `lint` there. A new entry is one
rename of a whole folder. In an existing entry the version's folder is renamed in first, where
Triton ignores it, because ``config.pbtxt`` names the version that is served; then its warm-up
files, whose names are new too; then ``golden.parquet`` and ``contract.json`` are replaced, and
``config.pbtxt`` last. Killed at any point, the entry loads: as it was, or as it is to be. The next
export of the same content finishes what was begun.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from tritonclient.grpc import model_config_pb2 as pb

from tritonbulk.contract import Contract
from tritonbulk.errors import ModelError, OptionError, SinkError
from tritonbulk_export.config import (
    comments_of,
    to_text,
)
from tritonbulk_export.content import Content, check_staged, describe, stage
from tritonbulk_export.entry_files import (
    CONFIG_FILE,
    CONTRACT_FILE,
    SNAPSHOT_FILES,
    check_no_links,
    described_content,
    pinned_versions,
    pins_of,
    read_config,
    served_version,
    versions_of,
)
from tritonbulk_export.serving import BatchSize, Serving
from tritonbulk_export.storage import (
    files_digest,
    move_folder,
    move_into,
    replace_file,
    repository_lock,
    staging_folder,
    write_file,
)
from tritonbulk_export.versions import content_digest, digest_digits, next_version
from tritonbulk_export.warmup import FOLDER as WARM_UP_FOLDER

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True)
class Published:
    """What publication did.

    Attributes:
        version: of the content.
        max_batch_size: that the entry now has.
        changed: False if everything was there already.
        is_served: whether the entry's configuration names that version; older content that was
            published before does not come back by itself.
        is_new: whether the version's folder was made.
        before: files of the entry that were replaced; empty if there was no entry.
        warnings: of lint about what was written, for people.
    """

    version: int
    max_batch_size: int
    changed: bool
    is_served: bool = True
    is_new: bool = False
    before: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    warnings: tuple[str, ...] = ()


def check_name(name: str) -> None:
    """Check that ``name`` can name an entry on every system.

    Raises:
        OptionError: it cannot; a retry does not help.
    """
    if not _NAME.fullmatch(name):
        raise OptionError(
            f"--name {name!r} cannot name a model; use up to 128 letters, digits, '_', '.' and "
            "'-', with no dot or dash in front"
        )


def publish(
    content: Content, repository: Path, now: datetime, staging: Path | None = None
) -> Published:
    """Put ``content`` into ``repository`` and return its version.

    Content that is there under any version changes nothing but the configuration, and that only
    where something was asked about serving.

    Args:
        content: to publish.
        repository: made if it does not exist.
        now: time for the version number, with a time zone.
        staging: where to put the entry together; None takes a folder beside the repository.

    Raises:
        OptionError: the name cannot be used, or an override has no meaning; no retry.
        ModelError: lint finds that Triton would refuse the entry; no retry.
        OutputError: the entry is not ours, or the staging folder cannot be used; no retry.
        SinkError: writing failed, or another export holds the repository; a retry may help.
    """
    check_name(content.contract.model)
    try:
        repository.mkdir(parents=True, exist_ok=True)
        repository = repository.resolve()
        with repository_lock(repository), staging_folder(repository, staging) as folder:
            return _publish_locked(content, repository / content.contract.model, now, folder)
    except OSError as error:
        raise SinkError(
            f"cannot publish to {repository}: {error.strerror or error}; what was there is "
            "unharmed, so mend the cause and export again"
        ) from error


def _publish_locked(content: Content, entry: Path, now: datetime, staging: Path) -> Published:
    staged = staging / entry.name
    staged.mkdir()
    digest = content_digest(content.contract)
    if not entry.exists() and not entry.is_symlink():
        described = stage(content, staged, next_version(digest, now, ()))
        warnings = check_staged(staged, entry.parent)
        move_folder(staged, entry)
        rows = described.config.max_batch_size
        made = served_version(described.config)
        return Published(made, rows, changed=True, is_new=True, warnings=warnings)
    check_no_links(entry)
    config, text = read_config(entry)
    versions = versions_of(entry)
    version = _find(content, entry, versions, config)
    if version is not None and _is_finished(version, content, config):
        return _keep(content, entry, version, (config, text), staging)
    if version is None:
        version = next_version(digest, now, versions)
    pins = pinned_versions(entry)
    described = stage(content, staged, version, pins)
    for pin in pins:
        if pin != version:
            (staged / str(pin)).symlink_to(entry / str(pin))
    try:
        warnings = check_staged(staged, entry.parent)
    except ModelError as error:
        raise ModelError(f"{error}{_said_of_pins(entry, version)}") from error
    is_new = not (entry / str(version)).exists()
    before = {
        name: (entry / name).read_bytes() for name in SNAPSHOT_FILES if (entry / name).exists()
    }
    if is_new:
        move_folder(staged / str(version), entry / str(version))
    _bring(staged, entry)
    rows = described.config.max_batch_size
    return Published(version, rows, changed=True, is_new=is_new, before=before, warnings=warnings)


def _said_of_pins(entry: Path, version: int) -> str:
    """Return which ensembles hold an entry to versions besides ``version``; "" if none."""
    pins = {pin: names for pin, names in pins_of(entry).items() if pin != version}
    if not pins:
        return ""
    held = ", ".join(f"{' and '.join(names)} to {pin}" for pin, names in sorted(pins.items()))
    return (
        f". Pipelines hold {entry.name} to older versions ({held}), which are served beside the "
        "new one with the same configuration, and so have to have its tensors: give another "
        "--name, or remove those pipelines first"
    )


def _bring(staged: Path, entry: Path) -> None:
    """Move all of a staged entry but its version's folder into ``entry``, configuration last."""
    warm_up = staged / WARM_UP_FOLDER
    if warm_up.is_dir():
        (entry / WARM_UP_FOLDER).mkdir(exist_ok=True)
        for path in sorted(warm_up.iterdir()):
            move_into(path, entry / WARM_UP_FOLDER)
    for name in SNAPSHOT_FILES:
        move_into(staged / name, entry)


def _keep(
    content: Content, entry: Path, version: int, there: tuple[pb.ModelConfig, str], staging: Path
) -> Published:
    """Leave an entry that has the content as it is, but for how it was asked to be served."""
    config, text = there
    served = version in config.version_policy.specific.versions
    is_serving_asked = content.serving != Serving() or bool(content.overrides)
    is_same_size = config.max_batch_size == content.batch.rows
    if not served or not (is_serving_asked or (content.batch.is_asked and not is_same_size)):
        return Published(version, config.max_batch_size, changed=False, is_served=served)
    if is_serving_asked:
        new = describe(content, version, pinned_versions(entry)).text
    else:
        new = _with_batch_size(config, text, content.batch)
    if new == text:
        return Published(version, config.max_batch_size, changed=False)
    staged = staging / entry.name
    for path in entry.iterdir():
        if path.name != CONFIG_FILE:
            (staged / path.name).symlink_to(path)
    write_file(staged / CONFIG_FILE, new.encode())
    warnings = check_staged(staged, entry.parent)
    replace_file(entry / CONFIG_FILE, new.encode(), staging)
    rows = read_config(entry)[0].max_batch_size
    before = {CONFIG_FILE: text.encode()}
    return Published(version, rows, changed=True, before=before, warnings=warnings)


def _with_batch_size(config: pb.ModelConfig, text: str, batch: BatchSize) -> str:
    """Return a configuration's text with another batch size, and all else as it was tuned."""
    for sample in config.model_warmup:
        if sample.batch_size == config.max_batch_size:
            sample.batch_size = batch.rows
            sample.name = f"golden_{batch.rows}"
    config.max_batch_size = batch.rows
    comments = re.sub(
        r"(?m)^# max_batch_size: .*$",
        lambda _: f"# max_batch_size: {batch.rows}: {batch.reason}",
        comments_of(text),
    )
    return comments + to_text(config)


def _find(
    content: Content, entry: Path, versions: Sequence[int], config: pb.ModelConfig
) -> int | None:
    """Return the newest version that has the content, or None."""
    wanted = content_digest(content.contract)
    described = served_version(config)
    for version in reversed(versions):
        if version % 10**6 != digest_digits(wanted):
            continue
        # Six digits may agree by chance; the configuration holds the whole contract of one version.
        if version == described and described_content(config) != wanted:
            continue
        if _has_content(content, entry / str(version)):
            return version
    return None


def _has_content(content: Content, folder: Path) -> bool:
    if content.links:
        snapshot = folder / CONTRACT_FILE
        return snapshot.is_file() and content_digest(
            Contract.from_json(snapshot.read_text(encoding="utf-8"))
        ) == content_digest(content.contract)
    if not all((folder / name).is_file() for name in content.files):
        return False
    files = {name: (folder / name).read_bytes() for name in content.files}
    return files_digest(files) == content.contract.digest


def _is_finished(version: int, content: Content, config: pb.ModelConfig) -> bool:
    """Return False if an export was killed after this version's folder came in.

    The configuration is replaced last, so it then describes an older version.
    """
    return version <= served_version(config) or (
        described_content(config) == content_digest(content.contract)
    )
