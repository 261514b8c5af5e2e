"""The files of an entry that export made: names, how they are read, where links may not be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from tritonbulk.contract import CONTRACT_PARAMETER, Contract
from tritonbulk.errors import OutputError
from tritonbulk_export.config import from_text
from tritonbulk_export.versions import content_digest

CONFIG_FILE = "config.pbtxt"
CONTRACT_FILE = "contract.json"
GOLDEN_FILE = "golden.parquet"
SNAPSHOT_FILES = (GOLDEN_FILE, CONTRACT_FILE, CONFIG_FILE)
"""What describes one version, in the order of replacement; each version's folder has a copy."""


def check_no_links(entry: Path) -> None:
    """Check that nothing that export would read or replace leads out of the entry.

    Raises:
        OutputError: the entry, a version, or one of its files is a symbolic link; no retry.
    """
    paths = [entry] if entry.is_symlink() else [entry, *sorted(entry.iterdir())]
    for path in paths:
        if path.is_symlink():
            raise OutputError(
                f"{path} is a symbolic link, and export does not write through links; replace it "
                "by what it points to"
            )
        if not (path.is_file() or path.is_dir()):
            raise OutputError(f"{path} is neither a file nor a folder; remove it")


def read_config(entry: Path) -> tuple[pb.ModelConfig, str]:
    """Return an entry's configuration and its text.

    Raises:
        OutputError: it cannot be read, or export did not write it; a retry does not help.
    """
    path = entry / CONFIG_FILE
    try:
        text = path.read_text(encoding="utf-8")
        config = from_text(text)
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
    return config, text


def versions_of(entry: Path) -> list[int]:
    """Return the versions that stand in an entry, oldest first."""
    names = [path.name for path in entry.iterdir() if path.is_dir()]
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def served_version(config: pb.ModelConfig) -> int:
    """Return the version that a configuration of export's names; 0 if it names none."""
    return max(config.version_policy.specific.versions, default=0)


def described_content(config: pb.ModelConfig) -> str:
    """Return the digest of the content that a configuration describes."""
    return content_digest(Contract.from_json(config.parameters[CONTRACT_PARAMETER].string_value))


def pinned_versions(entry: Path) -> list[int]:
    """Return the versions of an entry that ensembles beside it ask for by number, oldest first."""
    return sorted(pins_of(entry))


def pins_of(entry: Path) -> dict[int, list[str]]:
    """Return the ensembles beside an entry, by the version that they ask for by number."""
    found: dict[int, list[str]] = {}
    for path in entry.parent.iterdir():
        if path == entry or not (path / CONFIG_FILE).is_file():
            continue
        try:
            config = from_text((path / CONFIG_FILE).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, text_format.ParseError):
            continue
        for step in config.ensemble_scheduling.step:
            if step.model_name == entry.name and step.model_version > 0:
                found.setdefault(int(step.model_version), []).append(config.name)
    return {pin: sorted(set(names)) for pin, names in found.items() if (entry / str(pin)).is_dir()}


def add_pins(config: pb.ModelConfig, pins: Sequence[int]) -> None:
    """Let a configuration serve pinned versions besides its own."""
    versions = config.version_policy.specific.versions
    versions[:] = sorted({*versions, *pins})
