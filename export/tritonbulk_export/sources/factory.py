"""Factories and weights: a model that is code, and the numbers that belong to it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tritonbulk.errors import InputError, OptionError
from tritonbulk_export.names import first_line

Tensors = dict[str, Any]


def load_factory(reference: str) -> Callable[..., Any]:
    """Return the callable that ``reference`` names: ``pkg.module:name`` or ``file.py:name``.

    Modules are found as by ``python -m``, the working folder included.

    Raises:
        OptionError: the reference has another form; a retry does not help.
        InputError: the module cannot be imported or has no such callable; no retry.
    """
    module_name, colon, name = reference.rpartition(":")
    if Path(reference).is_file() and not colon:
        raise OptionError(
            f"{reference} is a file, and what torch.save or pickle wrote is not read as a model; "
            "write pkg.module:function or file.py:function, which makes the module, and give its "
            "weights with --weights"
        )
    if not colon or not module_name or not name:
        raise OptionError(
            f"{reference!r} names no factory; write pkg.module:function or file.py:function"
        )
    try:
        found: Any = _module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # whatever the user's module raises while it is imported
        raise InputError(
            f"{reference} cannot be loaded ({type(error).__name__}: {first_line(error)}); give "
            "pkg.module:function or file.py:function that works in this environment"
        ) from error
    if not callable(found):
        raise InputError(f"{reference} is a {type(found).__name__}, not a function that makes one")
    return found


def _module(name: str) -> Any:
    if name.endswith(".py"):
        path = Path(name)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None or not path.exists():
            raise FileNotFoundError(f"{path} does not exist")
        module = importlib.util.module_from_spec(spec)
        sys.modules.setdefault(path.stem, module)
        spec.loader.exec_module(module)
        return module
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    return importlib.import_module(name)


def made_by(factory: Callable[..., Any], reference: str, *arguments: Any) -> Any:
    """Return what ``factory`` makes.

    Raises:
        InputError: it fails; a retry does not help.
    """
    try:
        return factory(*arguments)
    except Exception as error:  # the user's code
        raise InputError(
            f"{reference} fails ({type(error).__name__}: {first_line(error)}); mend it"
        ) from error


def safetensors_of(path: Path, framework: str) -> Tensors:
    """Return the tensors in a safetensors file, by name.

    Args:
        path: the file.
        framework: ``torch``, ``numpy`` …: the module of safetensors that reads them.

    Raises:
        InputError: it is missing or no safetensors file; a retry does not help.
    """
    reader = importlib.import_module(f"safetensors.{framework}")
    if not path.exists():
        raise InputError(f"weights {path} do not exist; give the path of a safetensors file")
    try:
        tensors: Tensors = reader.load_file(path)
    except Exception as error:  # safetensors' own, or of the framework
        raise InputError(
            f"weights {path} are no safetensors file ({first_line(error)}); save them with "
            f"safetensors.{framework}.save_file"
        ) from error
    return tensors
