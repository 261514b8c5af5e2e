from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tritonbulk.errors import PlatformError
from tritonbulk.server import interpreter

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Give a function that puts a command on a PATH that has nothing else on it."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")

    def put(
        command: str, *, folder: str = "bin", fails: bool = False, **facts: str | bool | None
    ) -> Path:
        path = tmp_path / folder / command
        path.parent.mkdir(exist_ok=True)
        version = command.removeprefix("python")
        told = {
            "executable": str(path),
            "version": version,
            "library_folder": "/lib",
            "library_loads": True,
            "makes_environments": True,
        } | facts
        body = "echo 'command not found' >&2; exit 127" if fails else f"echo '{json.dumps(told)}'"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        folders = sorted({each.parent for each in tmp_path.glob("*/python*")})
        monkeypatch.setenv("PATH", ":".join(map(str, folders)))
        return path

    return put


def chosen() -> str:
    return interpreter.choose_interpreter().executable


def test_the_first_supported_version_is_chosen(install: Install) -> None:
    install("python3.13")
    oldest = install("python3.11")
    install("python3.12")
    assert chosen() == str(oldest)


def test_a_command_that_exists_but_does_not_run_is_passed_over(install: Install) -> None:
    install("python3.11", folder="a_shims", fails=True)
    works = install("python3.11", folder="b_usr")
    assert chosen() == str(works)


def test_a_python_without_a_loadable_library_is_passed_over(install: Install) -> None:
    install("python3.11", library_loads=False)
    works = install("python3.12")
    assert chosen() == str(works)


def test_a_static_python_is_refused_with_the_packages_to_install(install: Install) -> None:
    install("python3.11", library_loads=False)
    with pytest.raises(PlatformError, match=r"libpython3\.11 \(Debian.*python3\.11-libs"):
        chosen()


def test_a_python_without_venv_is_refused_with_the_package_to_install(install: Install) -> None:
    install("python3.12", makes_environments=False)
    with pytest.raises(PlatformError, match=r"install python3\.12-venv"):
        chosen()


def test_no_python_at_all_is_refused_with_the_packages_to_install(install: Install) -> None:
    install("python3.11", fails=True)
    with pytest.raises(PlatformError, match=r"python3\.11-venv and libpython3\.11"):
        chosen()


def test_a_command_that_lies_about_its_version_is_passed_over(install: Install) -> None:
    install("python3.11", version="3.9")
    works = install("python3.12")
    assert chosen() == str(works)


def test_the_probe_tells_the_truth_about_a_real_python() -> None:
    found = interpreter.probe(sys.executable)
    assert found is not None
    assert found.version == "{}.{}".format(*sys.version_info)


@pytest.mark.parametrize(
    ("machine", "libc", "words"),
    [
        ("ppc64le", ("glibc", "2.36"), "this machine is ppc64le"),
        ("x86_64", ("glibc", "2.34"), "has glibc 2.34"),
        ("x86_64", ("", ""), "has another C library"),
    ],
)
def test_a_machine_that_cannot_run_the_server_is_told_what_to_do(
    machine: str, libc: tuple[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "libc_ver", lambda: libc)
    with pytest.raises(PlatformError, match=rf"{words}: use --endpoint"):
        interpreter.check_platform()


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_other_systems_are_told_to_use_an_endpoint(
    system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    with pytest.raises(PlatformError, match=r"Linux only.*--endpoint"):
        interpreter.check_platform()


@pytest.mark.parametrize(
    ("machine", "libc"), [("x86_64", "2.35"), ("aarch64", "2.41"), ("x86_64", "3.0")]
)
def test_newer_machines_are_let_through(
    machine: str, libc: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", libc))
    interpreter.check_platform()
