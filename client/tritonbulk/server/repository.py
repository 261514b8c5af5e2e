"""What the server is given to serve: the user's repository, or a private view of it.

Options such as the number of instances are part of a model's ``config.pbtxt``. The user's files are
never edited: where an option changes a configuration, the server reads a view instead, in which the
configurations are edited copies and everything else is a symbolic link to the original.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tritonbulk.errors import InputError, ModelError, UsageError
from tritonbulk.server.overrides import Overrides, override
from tritonbulk.server.runs import is_plain

CONFIG = "config.pbtxt"


def entries(repository: Path) -> list[str]:
    """Return the names of the model entries in a repository, in order.

    Raises:
        InputError: there is no such folder, or it cannot be read.
    """
    try:
        return sorted(each.name for each in repository.iterdir() if each.is_dir())
    except OSError as error:
        raise InputError(
            f"{repository} is not a model repository that can be read: {error.strerror}."
        ) from error


def check_models(repository: Path, models: Sequence[str] | None) -> None:
    """Return if the repository has something to serve, and all that was asked for.

    Raises:
        InputError: the repository is missing or has no model entry.
        ModelError: a model of ``models`` has no entry; the text says which there are.
    """
    there = entries(repository)
    if not there and models is None:
        raise InputError(
            f"{repository} has no model entry: a model repository has one folder for each model."
        )
    for name in models or ():
        if name not in there:
            raise ModelError(
                f"{repository} has no model {name!r}; it has {', '.join(there) or 'none'}."
            )


def check_kinds(repository: Path, models: Sequence[str] | None, overrides: Overrides) -> None:
    """Return if no served entry insists on a GPU that this machine does not have.

    Raises:
        UsageError: one does; the text names the flag that overrides it.
    """
    if overrides.cpu or has_gpu():
        return
    for name in entries(repository) if models is None else models:
        config = _read(repository / name / CONFIG)
        if config is not None and wants_gpu(config):
            raise UsageError(
                f"Model {name!r} is configured for GPUs (KIND_GPU) and this machine has none: "
                "add --cpu to serve it on the CPU; its configuration stays as it is."
            )


def private_view(
    repository: Path, folder: Path, overrides: Overrides, say: Callable[[str], None]
) -> Path:
    """Return the repository to serve: itself if nothing is overridden, else a view in ``folder``.

    A repository whose path Triton cannot take is seen through a link in ``folder``.
    An entry whose configuration cannot be read is passed on as it is, so that Triton says why;
    ``say`` is told.

    Raises:
        OSError: the view cannot be written.
    """
    if overrides == Overrides():
        if is_plain(repository.absolute()):
            return repository
        folder.symlink_to(repository.absolute())
        return folder
    from google.protobuf import text_format  # noqa: PLC0415 - see _read

    folder.mkdir()
    for name in entries(repository):
        original, view = repository / name, folder / name
        config = _read(original / CONFIG)
        if config is None:
            say(f"{original / CONFIG} cannot be parsed here: {name} is served as it is configured")
        if config is None or config.platform == "ensemble":
            view.symlink_to(original.absolute())
            continue
        view.mkdir()
        for each in original.iterdir():
            if each.name != CONFIG:
                (view / each.name).symlink_to(each.absolute())
        override(config, overrides)
        (view / CONFIG).write_text(text_format.MessageToString(config), encoding="utf-8")
    return folder


def wants_gpu(config: Any) -> bool:
    """Return whether an ``inference.ModelConfig`` has an instance group of KIND_GPU."""
    return any(group.kind == group.KIND_GPU for group in config.instance_group)


def has_gpu() -> bool:
    """Return whether an NVIDIA GPU can be seen from here (its device file, or WSL's)."""
    devices = Path("/dev")
    return any(devices.glob("nvidia[0-9]*")) or (devices / "dxg").exists()


def _read(path: Path) -> Any | None:
    """Return the configuration in ``path``, an empty one if there is none, None if it is broken."""
    # Here and not above: tritonclient and grpc take longer to import than the command line may.
    from google.protobuf import text_format  # noqa: PLC0415
    from tritonclient.grpc import model_config_pb2  # noqa: PLC0415

    config = model_config_pb2.ModelConfig()
    try:
        text_format.Parse(path.read_text(encoding="utf-8"), config)
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError, text_format.ParseError):
        return None
    return config
