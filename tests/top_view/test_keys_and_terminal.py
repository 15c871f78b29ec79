"""On a real terminal: keys work at once, and whichever way it ends the terminal is as it was."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import termios

import pytest
from recorded_sidecar import CALM, Listener, documents, recorded
from terminal import LIMIT, Terminal

from tenantscope.top.keyboard import HANGUP, Keyboard

LEFT = ("\x1b[?1049l", "\x1b[?25h")  # the first screen is back, and the cursor


@pytest.fixture
def waiting_listener(listener: Listener) -> Listener:
    """Has answered everything twice the same, so that pictures only change for what a test does."""
    listener.answer = documents(recorded(CALM))
    return listener


def assert_as_it_was(terminal: Terminal) -> None:
    assert terminal.modes() == terminal.before
    assert all(sequence in terminal.raw for sequence in LEFT)
    assert "Traceback" not in terminal.raw


def test_keys_sort_pause_and_quit(waiting_listener: Listener) -> None:
    """Each key shows that it was taken; none has to wait for the next look, here a minute away."""
    with Terminal("--admin", waiting_listener.url, "--interval", "60") as terminal:
        terminal.shows("acme", "sorted by share")
        assert not terminal.modes()[3] & (termios.ICANON | termios.ECHO)
        for order in ("waited", "made-wait", "messages", "errors", "share"):
            terminal.type("s")
            terminal.shows(f"sorted by {order}")
        terminal.type("p")
        terminal.shows("PAUSED")
        terminal.type("ps")
        assert "PAUSED" not in terminal.shows("sorted by waited")
        terminal.type("q")
        assert terminal.ends() == 0
        assert_as_it_was(terminal)


def test_a_pause_keeps_the_picture_until_it_ends(listener: Listener) -> None:
    """The sidecar is asked on; what it says is shown when the pause is over."""
    document = recorded(CALM)
    listener.answer = documents(document)
    with Terminal("--admin", listener.url, "--interval", "0.1") as terminal:
        terminal.shows("acme")
        terminal.type("p")
        terminal.shows("PAUSED")
        listener.answer = documents(document | {"destination": "collector.example:4317"})
        terminal.type("s")
        assert "collector" not in terminal.shows("sorted by waited")
        terminal.type("p")
        terminal.shows("collector.example:4317")
        terminal.type("q")
        assert terminal.ends() == 0


def test_arrows_and_unknown_keys_do_nothing(waiting_listener: Listener) -> None:
    """An arrow is sent as letters after an escape; they are no commands."""
    with Terminal("--admin", waiting_listener.url, "--interval", "60") as terminal:
        terminal.shows("sorted by share")
        for keys in ("\x1b[s", "\x1bOp", "x", "é", "\x00"):
            terminal.type(keys)
            assert "PAUSED" not in terminal.shows("sorted by share")
        terminal.type("q")
        assert terminal.ends() == 0


@pytest.mark.parametrize(
    ("ending", "status"), [("\x03", 130), (signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGHUP, 128 + signal.SIGHUP)]
)
def test_signals_put_the_terminal_back(waiting_listener: Listener, ending: str | int, status: int) -> None:
    """Ctrl-C, and a polite `kill`."""
    with Terminal("--admin", waiting_listener.url) as terminal:
        terminal.shows("sorted by share")
        if isinstance(ending, str):
            terminal.type(ending)
        else:
            terminal.process.send_signal(ending)
        assert terminal.ends() == status
        assert_as_it_was(terminal)


def test_ctrl_z_gives_the_terminal_back_until_it_goes_on(waiting_listener: Listener) -> None:
    """The shell behind it is usable meanwhile, and afterwards the view is there again."""
    with Terminal("--admin", waiting_listener.url) as terminal:
        terminal.shows("sorted by share")
        terminal.type("\x1a")
        terminal.stops()
        assert_as_it_was(terminal)
        terminal.continues()
        terminal.shows("acme", "sorted by share")
        assert not terminal.modes()[3] & termios.ICANON
        terminal.type("q")
        assert terminal.ends() == 0
        assert_as_it_was(terminal)


def test_a_window_that_is_closed_ends_it(waiting_listener: Listener) -> None:
    """Nobody looks any more: no process stays behind."""
    with Terminal("--admin", waiting_listener.url) as terminal:
        terminal.shows("sorted by share")
        terminal.hang_up()
        assert terminal.process.wait(LIMIT) != 0


def test_another_size_is_drawn_without_another_look(waiting_listener: Listener) -> None:
    """Columns come and go with the room for them."""
    with Terminal("--admin", waiting_listener.url, "--interval", "60") as terminal:
        assert "tokens" not in terminal.shows("acme", "sorted by share")
        terminal.resize(120, 30)
        terminal.shows("tokens", "waits", "sorted by share")
        terminal.resize(60, 20)
        terminal.shows(" beat", "sorted by share")
        terminal.type("q")
        assert terminal.ends() == 0


def test_without_a_sidecar_it_says_so_and_goes_on_when_there_is_one() -> None:
    """What was tried, how to start one, and no need to start this again."""
    gone = Listener()
    port = gone.server_address[1]
    gone.close()
    with Terminal("--admin", f"127.0.0.1:{port}", "--interval", "0.1") as terminal:
        terminal.shows(f"http://127.0.0.1:{port}", "connection refused", "tenantscope sidecar", "q quit")
        back = Listener(port)
        try:
            terminal.shows("acme", "embedded store")
        finally:
            back.close()
        terminal.shows("no answer for", "acme")
        terminal.type("q")
        assert terminal.ends() == 0


def test_a_silent_sidecar_does_not_make_the_keys_wait(listener: Listener) -> None:
    """The question is asked in another thread; the answer never comes."""
    listener.answer = lambda handler: handler.rfile.read()
    with Terminal("--admin", listener.url) as terminal:
        terminal.shows("asking the sidecar")
        terminal.type("q")
        assert terminal.ends() == 0


def test_no_color_is_honoured(waiting_listener: Listener) -> None:
    """No colour is sent; bold and dim still are."""
    with Terminal("--admin", waiting_listener.url, NO_COLOR="1") as terminal:
        terminal.shows("acme", "sorted by share")
        assert "\x1b[36m" not in terminal.raw
        assert "\x1b[1m" in terminal.raw
        terminal.type("q")
        terminal.ends()
    with Terminal("--admin", waiting_listener.url) as terminal:
        terminal.shows("acme", "sorted by share")
        assert "\x1b[36m" in terminal.raw


def test_a_dumb_terminal_gets_one_picture(waiting_listener: Listener) -> None:
    """Nothing that it could not obey."""
    with Terminal("--admin", waiting_listener.url, "--interval", "0.1", TERM="dumb") as terminal:
        assert terminal.ends() == 0
        assert "acme" in terminal.raw
        assert "\x1b" not in terminal.raw


def test_an_exception_puts_the_terminal_back() -> None:
    """Whatever goes wrong while keys are read one by one."""
    ours, theirs = pty.openpty()
    try:
        before = termios.tcgetattr(theirs)
        modes = []
        with contextlib.suppress(ZeroDivisionError), Keyboard(theirs).keys():
            modes = termios.tcgetattr(theirs)
            raise ZeroDivisionError
        assert modes != before
        assert termios.tcgetattr(theirs) == before
    finally:
        os.close(ours)
        os.close(theirs)


def test_waiting_for_a_key_ends_with_a_key_a_wake_or_a_hangup() -> None:
    """Keys that were typed together come together; a wake brings none, however many there were."""
    ours, theirs = pty.openpty()
    keyboard = Keyboard(theirs)
    assert keyboard.there
    try:
        with keyboard.keys():
            os.write(ours, b"sp")
            assert keyboard.wait(LIMIT) == "sp"
            for _ in range(100_000):
                keyboard.wake()
            assert keyboard.wait(LIMIT) == ""
            os.close(ours)
            while (keys := keyboard.wait(LIMIT)) != HANGUP:
                assert keys == ""
    finally:
        os.close(theirs)


def test_without_a_terminal_there_are_no_keys(tmp_path: os.PathLike[str]) -> None:
    """Input from a file is not read."""
    with open(os.path.join(tmp_path, "keys"), "w+") as file:  # noqa: PTH118, PTH123
        keyboard = Keyboard(file.fileno())
        assert not keyboard.there
        keyboard.wake()
        with keyboard.keys():
            assert keyboard.wait(LIMIT) == ""
