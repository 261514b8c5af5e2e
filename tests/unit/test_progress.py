"""Progress with and without a known number of rows."""

import io

from rich.console import Console

from tritonbulk.cli import progress


def shown(total, monkeypatch, terminal):
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120)
    monkeypatch.setattr(progress, "Console", lambda **_: console)
    monkeypatch.setattr(progress, "PLAIN_LINE_EVERY_S", 0.0)
    with progress.RowProgress() as bar:
        bar.begin(total)
        bar.advance(1_500, 2)
    return out.getvalue()


def test_a_known_number_of_rows_gives_a_share_and_a_rest(monkeypatch):
    line = shown(4_000, monkeypatch, terminal=False)
    assert "1,502 of 4,000 rows" in line
    assert "s left" in line
    assert "1,502/4,000 rows" in shown(4_000, monkeypatch, terminal=True)


def test_an_unknown_number_of_rows_gives_the_count_alone(monkeypatch):
    line = shown(None, monkeypatch, terminal=False)
    assert "1,502 rows" in line
    assert "left" not in line
    assert "1,502 rows" in shown(None, monkeypatch, terminal=True)
