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


def test_the_pace_shows_a_pause():
    pace = progress.Pace()
    assert str(pace) == ""
    rows = 0
    for tenth in range(60):
        rows += 0 if 20 <= tenth < 40 else 1000
        pace.settled(rows, tenth / 10)
    shown_pace = str(pace)
    assert len(shown_pace) >= 8
    assert "▁" in shown_pace[2:-2]
    assert {shown_pace[0], shown_pace[-1]} <= set("▆▇█")


def test_the_pace_of_a_week_is_as_short_as_that_of_a_minute():
    pace = progress.Pace()
    for minute in range(7 * 24 * 60):
        pace.settled(minute * 1000, minute * 60.0)
    assert 10 <= len(str(pace)) <= progress.PACE_MARKS
