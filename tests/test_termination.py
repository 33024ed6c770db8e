"""SIGTERM ends a run in order."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from cnn_transfer.exit_codes import STOPPED
from cnn_transfer.termination import Terminated, ended_by_signals


def wait_for_the_signal():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    except Exception as error:
        raise AssertionError("no handler of errors sees it") from error


def test_the_signal_becomes_an_exception_that_is_no_error(caplog):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated) as told, ended_by_signals(logging.getLogger("test")):
        wait_for_the_signal()
    assert told.value.code == STOPPED == 75
    assert "Stopping at SIGTERM" in caplog.text
    assert signal.getsignal(signal.SIGTERM) == before


def test_other_threads_leave_signals_alone():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work():
        with ended_by_signals(None):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


class Destroyed:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)  # the handler runs here, where Python only reports exceptions


def test_a_signal_in_a_destructor_is_not_lost(caplog, capfd):
    def work():
        Destroyed()
        time.sleep(5)

    with pytest.raises(Terminated), ended_by_signals(logging.getLogger("test")):
        work()
    assert caplog.text.count("Stopping at SIGTERM") == 1
    assert "Exception ignored" not in capfd.readouterr().err


UNREAD = """
import logging, time
from rich.logging import RichHandler
from cnn_transfer.termination import ended_by_signals
logging.basicConfig(handlers=[RichHandler()])
with ended_by_signals(logging.getLogger()):
    print("ready", flush=True)
    time.sleep(60)
"""


def test_the_exit_code_says_so_even_where_nobody_reads_the_output_any_more():
    process = subprocess.Popen([sys.executable, "-c", UNREAD], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    process.stdout.close()  # as when an orchestrator stops reading and goes away
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == STOPPED


def test_what_a_library_has_caught_is_raised_again():
    caught = []

    def run():
        with ended_by_signals(logging.getLogger("test")) as end_if_told:
            end_if_told()
            try:
                wait_for_the_signal()
            except BaseException as error:
                caught.append(error)
            end_if_told()

    with pytest.raises(Terminated):
        run()
    assert len(caught) == 1


STUCK = """
import hashlib, logging, time
from cnn_transfer import termination
termination.GRACE_SECONDS = 0.5
with termination.ended_by_signals(logging.getLogger()):
    print("ready", flush=True)
    {stuck}
"""
LIBRARY = "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"  # minutes in C, where no handler runs
HANDLER = """
    try:
        time.sleep(60)
    except BaseException:
        time.sleep(60)
"""


@pytest.mark.parametrize("stuck", [LIBRARY, HANDLER])
def test_a_process_that_cannot_be_interrupted_ends_all_the_same(stuck):
    with subprocess.Popen(
        [sys.executable, "-c", STUCK.format(stuck=stuck)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)  # until it is stuck
        process.terminate()
        assert process.wait(10) == STOPPED
        assert "the same command under the same run id goes on" in process.stderr.read()
