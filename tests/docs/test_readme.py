"""What the documents tell a user to type works as it stands there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pyarrow.parquet as pq
import pytest

from tritonbulk.cli.main import command as tritonbulk

PROJECT = Path(__file__).parents[2]
DOCUMENTS = [
    "README.md",
    *sorted(str(p.relative_to(PROJECT)) for p in PROJECT.glob("docs/**/*.md")),
]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(document, language):
    text = (PROJECT / document).read_text(encoding="utf-8")
    return [body for found, body in BLOCK.findall(text) if found == language]


def commands():
    """Yield every complete command line of ours in the documents."""
    for document in DOCUMENTS:
        for body in blocks(document, "sh"):
            for line in body.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["tritonbulk"]:
                    yield pytest.param(words[1:], id=f"{document}: {' '.join(words[:4])}")


@pytest.mark.parametrize("words", list(commands()))
def test_every_command_line_is_understood(words, tmp_path, monkeypatch):
    (tmp_path / "wheels").mkdir()  # an option asks for a folder that is there
    monkeypatch.chdir(tmp_path)
    group, context = tritonbulk, click.Context(tritonbulk)
    while isinstance(group, click.Group):
        name, group, words = group.resolve_command(context, words)
        context = click.Context(group, context, name)
    group.make_context(name, list(words), context)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document):
    text = (PROJECT / document).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (PROJECT / document).parent.joinpath(target).exists(), target


@pytest.mark.ci
@pytest.mark.live
def test_the_readmes_python_runs(tmp_path):
    (code,) = blocks("README.md", "python")
    (tmp_path / "model_repository").symlink_to(PROJECT / "model_repository")
    data = [sys.executable, PROJECT / "examples" / "flights" / "data.py"]
    subprocess.run(data, cwd=tmp_path, check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert "336,776 rows" in done.stdout
    assert "0 failed" in done.stdout
    table = pq.read_table(tmp_path / "out" / "library")
    assert table.num_rows == 336_776
    assert table.column_names[:3] == ["carrier", "flight", "probabilities"]
