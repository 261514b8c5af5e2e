"""``tritonbulk`` and ``python -m tritonbulk``: the command line, interruptible from its start."""

from __future__ import annotations

from typing import NoReturn

from tritonbulk.cli.starting import leave, leaving_at_once


def main() -> NoReturn:
    """Run the command line and exit."""
    with leaving_at_once():
        from tritonbulk.cli.main import main as command  # noqa: PLC0415  takes a second
    try:
        command()
    except SystemExit as ended:
        leave(ended.code if isinstance(ended.code, int) else 0)


if __name__ == "__main__":
    main()
