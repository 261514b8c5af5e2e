"""``tritonbulk doctor``."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import Any

import click

from tritonbulk.cli.common import access_options, parse_access
from tritonbulk.doctor import Finding, examine, worst
from tritonbulk.errors import OptionError

_SIGNS = {"ok": "ok", "unknown": "?", "warning": "!", "problem": "✗"}


@click.command(
    name="doctor",
    epilog="Example:  tritonbulk doctor --endpoint gpu1:8001 --model flight_delay "
    "--out s3://bucket/scored",
)
@click.option(
    "--endpoint",
    multiple=True,
    metavar="HOST:PORT",
    help="A running Triton server (gRPC); repeat for several.  [default: the embedded one]",
)
@click.option("--model", help="Name of the model on the servers.")
@click.option("--model-version", metavar="V", help="Version.  [default: the newest]")
@click.option("--out", help="Output folder or URI to be; only probes are written, and removed.")
@access_options
@click.option("--json", "as_json", is_flag=True, help="Print the findings as one JSON object.")
def command(**given: Any) -> int:
    """Look what stands in the way of a run, and say how to mend it.

    Exit codes: 0 nothing does (there may be warnings), 2 wrong use, 3 something does.
    """
    if (given["model"] or given["model_version"]) and not given["endpoint"]:
        raise OptionError(
            "--model is looked at on servers at --endpoint; for a repository there is tritonbulk "
            "lint"
        )
    found = asyncio.run(
        examine(
            given["endpoint"],
            given["model"],
            given["model_version"],
            given["out"],
            parse_access(given),
        )
    )
    verdict = worst(found)
    if given["as_json"]:
        plain = {"verdict": verdict, "findings": [asdict(each) for each in found]}
        click.echo(json.dumps(plain))
    else:
        for each in found:
            click.echo(_shown(each))
        counts = {level: sum(each.level == level for each in found) for level in _SIGNS}
        click.echo(f"{counts['problem']} problems, {counts['warning']} warnings")
    return 3 if verdict == "problem" else 0


def _shown(finding: Finding) -> str:
    about = f"{finding.about}: " if finding.about else ""
    fix = f"\n{'':4}→ {finding.fix}" if finding.fix else ""
    return f"{_SIGNS[finding.level]:4}{finding.check}: {about}{finding.text}{fix}"
