"""The command line of export: ``options`` that all exports share, one command a framework.

A command of its own (not an export) is a module of its own here and is added to the group below.
"""

import click

from tritonbulk_export.cli.frameworks import COMMANDS, LIGHTGBM_EXAMPLE
from tritonbulk_export.cli.pipeline import pipeline_command
from tritonbulk_export.cli.tensorrt import tensorrt_command

__all__ = ["command"]


@click.group(name="export", epilog=f"Example:  {LIGHTGBM_EXAMPLE}")
def command() -> None:
    """Turn a model into an entry that Triton serves.

    The entry is compared with the source model on every sample row, and published only if it
    gives the same answers.
    """


for _command in (*COMMANDS, pipeline_command, tensorrt_command):
    command.add_command(_command)
