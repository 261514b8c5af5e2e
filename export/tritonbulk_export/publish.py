"""Publication: a finished entry or version appears in the repository in one step, or not at all.

A new entry is one rename of a whole folder. In an existing entry the version's folder is renamed in
first, where Triton ignores it, because ``config.pbtxt`` names the version that is served; then
``golden.parquet`` and ``contract.json`` are replaced, and ``config.pbtxt`` last. Killed at any
point, the entry loads: as it was, or as it is to be. The next export of the same content finishes
what was begun.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from tritonbulk.contract import CONTRACT_PARAMETER, Contract
from tritonbulk.errors import OptionError, OutputError, SinkError
from tritonbulk_export.config import MODEL_FILE, from_text, model_config, to_text
from tritonbulk_export.storage import (
    files_digest,
    move_folder,
    read_files,
    replace_file,
    repository_lock,
    staging_folder,
    sync_folder,
    write_file,
)
from tritonbulk_export.versions import content_digest, digest_digits, next_version

CONFIG_FILE = "config.pbtxt"
CONTRACT_FILE = "contract.json"
GOLDEN_FILE = "golden.parquet"

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True)
class Content:
    """What is to be published.

    Attributes:
        contract: of the entry; its digest is that of ``files``.
        files: the model, as bytes by path in the version's folder; see `graph.model_files`.
        golden: bytes of the golden rows.
        max_batch_size: rows a request may have.
        is_batch_size_asked: True if the user gave it: it then also changes an entry that already
            has the content. A default never undoes what was tuned.
    """

    contract: Contract
    files: Mapping[str, bytes]
    golden: bytes
    max_batch_size: int
    is_batch_size_asked: bool = False


@dataclass(frozen=True, slots=True)
class Published:
    """What publication did.

    Attributes:
        version: of the content.
        max_batch_size: that the entry now has.
        changed: False if everything was there already.
        is_served: whether the entry's configuration names that version; older content that was
            published before does not come back by itself.
    """

    version: int
    max_batch_size: int
    changed: bool
    is_served: bool = True


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

    Content that is there under any version changes nothing.

    Args:
        content: to publish.
        repository: made if it does not exist.
        now: time for the version number, with a time zone.
        staging: where to put the entry together; None takes a folder beside the repository.

    Raises:
        OptionError: the name cannot be used; no retry.
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
    if not entry.exists():
        version = next_version(content_digest(content.contract), now, ())
        return _publish_entry(content, entry, version, staging)
    config = _read_config(entry)
    versions = _versions(entry)
    found = _find(content, entry, versions, config)
    if found is not None and _is_finished(found, content, config):
        return _keep(content, entry, found, config, staging)
    version = found or next_version(content_digest(content.contract), now, versions)
    if found is None:
        _stage_version(content, staging, version)
        move_folder(staging / str(version), entry / str(version))
    replace_file(entry / GOLDEN_FILE, content.golden, staging)
    replace_file(entry / CONTRACT_FILE, _contract_text(content), staging)
    replace_file(entry / CONFIG_FILE, _config_text(content, version), staging)
    return Published(version, content.max_batch_size, changed=True)


def _publish_entry(content: Content, entry: Path, version: int, staging: Path) -> Published:
    staged = staging / entry.name
    staged.mkdir()
    _stage_version(content, staged, version)
    write_file(staged / GOLDEN_FILE, content.golden)
    write_file(staged / CONTRACT_FILE, _contract_text(content))
    write_file(staged / CONFIG_FILE, _config_text(content, version))
    move_folder(staged, entry)
    return Published(version, content.max_batch_size, changed=True)


def _keep(
    content: Content, entry: Path, version: int, config: pb.ModelConfig, staging: Path
) -> Published:
    """Leave an entry that has the content as it is, but for a batch size that was asked for."""
    served = version in config.version_policy.specific.versions
    if not (served and content.is_batch_size_asked) or (
        config.max_batch_size == content.max_batch_size
    ):
        return Published(version, config.max_batch_size, changed=False, is_served=served)
    config.max_batch_size = content.max_batch_size
    replace_file(entry / CONFIG_FILE, to_text(config).encode(), staging)
    return Published(version, content.max_batch_size, changed=True)


def _stage_version(content: Content, parent: Path, version: int) -> None:
    folder = parent / str(version)
    folder.mkdir()
    for name, data in content.files.items():
        parent_folder = (folder / name).parent
        parent_folder.mkdir(exist_ok=True)
        write_file(folder / name, data)
        sync_folder(parent_folder)
    sync_folder(folder)


def _config_text(content: Content, version: int) -> bytes:
    return to_text(model_config(content.contract, version, content.max_batch_size)).encode()


def _contract_text(content: Content) -> bytes:
    return (content.contract.to_json(indent=2) + "\n").encode()


def _read_config(entry: Path) -> pb.ModelConfig:
    path = entry / CONFIG_FILE
    try:
        config = from_text(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise OutputError(
            f"entry {entry} exists but its {CONFIG_FILE} cannot be read ({error}); move the entry "
            "away or choose another --name"
        ) from error
    if CONTRACT_PARAMETER not in config.parameters:
        raise OutputError(
            f"entry {entry} was not made by tritonbulk export and would be overwritten; move it "
            "away or choose another --name"
        )
    return config


def _versions(entry: Path) -> list[int]:
    names = [path.name for path in entry.iterdir() if path.is_dir()]
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def _find(
    content: Content, entry: Path, versions: Sequence[int], config: pb.ModelConfig
) -> int | None:
    """Return the newest version that has the content, or None."""
    wanted = content_digest(content.contract)
    described = max(config.version_policy.specific.versions, default=0)
    for version in reversed(versions):
        if version % 10**6 != digest_digits(wanted):
            continue
        # Six digits may agree by chance; the configuration holds the whole contract of one version.
        if version == described and _described_content(config) != wanted:
            continue
        found = read_files(entry / str(version), MODEL_FILE)
        if found and files_digest(found) == content.contract.digest:
            return version
    return None


def _is_finished(version: int, content: Content, config: pb.ModelConfig) -> bool:
    """Return False if an export was killed after this version's folder came in.

    The configuration is replaced last, so it then describes an older version.
    """
    served = max(config.version_policy.specific.versions, default=0)
    return version <= served or _described_content(config) == content_digest(content.contract)


def _described_content(config: pb.ModelConfig) -> str:
    return content_digest(Contract.from_json(config.parameters[CONTRACT_PARAMETER].string_value))
