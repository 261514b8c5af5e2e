"""What docs/faults.md quotes is what the code says."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUOTED = re.findall(r"`([^`\n]+)`", (ROOT / "docs" / "faults.md").read_text())
MESSAGES = [each for each in QUOTED if len(each.split()) >= 4 and not each.startswith("make ")]


def said():
    """Return every text in the client's code, with "…" where it is filled in."""
    texts = []
    for path in sorted((ROOT / "client" / "tritonbulk").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [
                    each.value if isinstance(each, ast.Constant) else "…" for each in node.values
                ]
                texts.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return texts


TEXTS = said()


@pytest.mark.parametrize("message", MESSAGES)
def test_a_quoted_message_is_in_the_code(message):
    fixed = [part.strip(" ():;,") for part in message.split("…")]
    fixed = [part for part in fixed if len(part) > 2]
    assert any(all(part in text for part in fixed) for text in TEXTS), fixed


def test_there_are_messages():
    assert len(MESSAGES) >= 20
