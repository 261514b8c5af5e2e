"""Signals: heard at any moment of a run, before its first row and after its last as well."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from tritonbulk.cli import stopping
from tritonbulk.cli.stopping import heard_signals
from tritonbulk.errors import StoppedError
from tritonbulk.running import Observer


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_before_the_first_row_ends_the_run(number, code):
    async def work(observer, stop):
        send(number)
        await asyncio.sleep(60)

    with heard_signals() as signals, pytest.raises(StoppedError, match="before the first") as ended:
        signals.run(work, Observer(), 5.0)
    assert ended.value.exit_code == code


def test_a_signal_before_the_loop_runs_is_not_lost():
    async def work(observer, stop):
        await asyncio.sleep(60)

    with heard_signals() as signals:
        send(signal.SIGTERM)
        with pytest.raises(StoppedError):
            signals.run(work, Observer(), 5.0)


def test_a_signal_in_the_midst_asks_the_run_to_stop():
    said = []

    async def work(observer, stop):
        observer.begin(10)
        send(signal.SIGTERM)
        await stop.wait()
        raise StoppedError("stopped with 3 segments")

    with heard_signals() as signals, pytest.raises(StoppedError, match="3 segments") as ended:
        signals.run(work, Observer(said.append), 5.0)
    assert ended.value.exit_code == 143
    assert "a second signal ends at once" in said[0]


def test_a_run_that_ends_meanwhile_has_ended_well():
    async def work(observer, stop):
        observer.begin(10)
        send(signal.SIGTERM)
        return "done"

    with heard_signals() as signals:
        assert signals.run(work, Observer(), 5.0) == "done"


def test_what_does_not_end_within_the_grace_is_cancelled(monkeypatch):
    monkeypatch.setattr(stopping, "LATE_S", 0.05)

    async def work(observer, stop):
        observer.begin(10)
        send(signal.SIGINT)
        await asyncio.sleep(60)

    with heard_signals() as signals, pytest.raises(StoppedError, match="stopped; nothing that"):
        signals.run(work, Observer(), 0.05)


def test_a_signal_after_the_end_stops_nothing():
    async def work(observer, stop):
        return "done"

    before = signal.getsignal(signal.SIGTERM)
    with heard_signals() as signals:
        signals.run(work, Observer(), 5.0)
        for _ in range(3):
            send(signal.SIGTERM)
        time.sleep(0.05)
    assert signal.getsignal(signal.SIGTERM) == before


def test_elsewhere_than_in_the_main_thread_there_are_none_to_hear():
    found = []

    def run():
        async def work(observer, stop):
            return "done"

        with heard_signals() as signals:
            found.append(signals.run(work, Observer(), 5.0))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    assert found == ["done"]


SECOND = """
import asyncio, os, signal, threading, time
from tritonbulk.cli.stopping import heard_signals
from tritonbulk.running import Observer

async def work(observer, stop):
    observer.begin(10)
    def send():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.2)
    threading.Thread(target=send).start()
    {block}

with heard_signals() as signals:
    signals.run(work, Observer(), 60.0)
"""


@pytest.mark.parametrize(
    "block", ["await asyncio.sleep(60)", "time.sleep(60)"], ids=["loop runs", "loop is blocked"]
)
def test_a_second_signal_ends_the_process_at_once_whatever_it_does(block):
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", SECOND.format(block=block)], timeout=50, check=False
    )
    assert done.returncode == 143
    assert time.monotonic() - began < 45
