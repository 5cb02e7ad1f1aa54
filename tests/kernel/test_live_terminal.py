"""
``jail run -t``, ``jail shell`` and ``jail exec -t``, by somebody who sits at a terminal. pty(7)
"""

import contextlib
import os
import select
import subprocess
import sys
import termios
import time

import pytest

import jail

pytestmark = [pytest.mark.needs("userns"), pytest.mark.program("setsid", "stty")]

PATIENCE = 30.0  # seconds: what is awaited happens at once, and a test that waits in vain is to end
JAIL = (sys.executable, "-m", "jail")


class User:
    """
    Sits at a terminal of 30 rows and 100 columns, whose shell runs one command and then says how that ended.
    """

    def __init__(self, cmd):
        self.fd, slave = os.openpty()
        termios.tcsetwinsize(self.fd, (30, 100))
        attributes = termios.tcgetattr(slave)
        attributes[6][termios.VKILL] = b"\x18"  # which no program sets by itself
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        self.attributes = termios.tcgetattr(slave)
        line = ["setsid", "--ctty", "sh", "-c", '"$@"; echo "status:$?."; read x', "sh", *cmd]
        self.process = subprocess.Popen(line, stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        self.seen = b""

    def type(self, keys):
        """
        Type.
        """
        os.write(self.fd, keys)

    def await_text(self, text):
        """
        Read until this is shown, and give all that was shown since the last time.
        """
        deadline = time.monotonic() + PATIENCE
        while text not in self.seen:
            ready, _, _ = select.select([self.fd], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{text!r} is not in {self.seen[-500:]!r}"
            self.seen += os.read(self.fd, 65536)
        shown, _, self.seen = self.seen.partition(text)
        return shown + text

    def await_status(self):
        """
        The exit code of the command, when the terminal is as it was.
        """
        self.await_text(b"status:")
        assert self.attributes == termios.tcgetattr(self.fd)
        return int(self.await_text(b".")[:-1])

    def leave(self):
        """
        Close the terminal.
        """
        os.close(self.fd)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE)
        self.process.kill()
        self.process.wait()


@pytest.fixture
def sit(tmp_path, monkeypatch):
    """
    Starts a command of ours at a terminal: ``run``, ``shell`` or ``exec`` with these options and this program.
    """
    monkeypatch.setenv("JAIL_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("TERM", "vt100")
    users, boxes = [], []

    def sit(way, *cmd, options=()):
        if way == "exec":
            boxes.append(jail.Sandbox(name="one"))
        line = {
            "run": ["run", "-t", *options, "--", *cmd],
            "exec": ["exec", "-t", *options, "one", "--", *cmd],
            "shell": ["shell", *options],
        }
        users.append(User([*JAIL, *line[way]]))
        return users[-1]

    yield sit
    for user in users:
        user.leave()
    for box in boxes:
        box.close()


@pytest.mark.parametrize("way", ["run", "exec"])
def test_terminal(way, sit):
    """
    The program has a terminal of its own, as large as the user's, and knows of which kind; its exit code is passed
    on and the user's terminal is as it was.
    """
    user = sit(way, "sh", "-c", "tty; stty size; echo $TERM; test -t 0 && test -t 1 && test -t 2 && exit 42")

    assert b"/dev/pts/0\r\n30 100\r\nvt100\r\n" in user.await_text(b"vt100\r\n")
    assert 42 == user.await_status()


@pytest.mark.parametrize("way", ["run", "exec"])
def test_keys(way, sit):
    """
    What is typed is the program's: lines, Ctrl-C as SIGINT, Ctrl-D as the end of its input.
    """
    code = "trap 'echo interrupted' INT; echo up; cat; echo again; cat; echo over; exit 5"
    user = sit(way, "sh", "-c", code)
    user.await_text(b"up\r\n")
    user.type(b"typed\r")
    user.await_text(b"typed\r\ntyped\r\n")
    user.type(b"\x03")
    user.await_text(b"interrupted\r\nagain\r\n")
    user.type(b"\x04")
    user.await_text(b"over\r\n")

    assert 5 == user.await_status()


@pytest.mark.parametrize("way", ["run", "exec"])
def test_interrupted(way, sit):
    """
    Ctrl-C ends a program that does not catch it, and not the command that shows it.
    """
    user = sit(way, "sh", "-c", "trap '' TERM; echo up; exec sleep 1000")
    user.await_text(b"up\r\n")
    user.type(b"\x03")

    assert 130 == user.await_status()


def test_shell(sit):
    """
    The shell runs what is typed, inside, and Ctrl-D ends it with the exit code of the last command.
    """
    user = sit("shell", options=["--hostname", "within"])
    user.type(b"uname -n; stty size; tty\r")
    shown = user.await_text(b"/dev/pts/0\r\n")
    assert b"within\r\n30 100\r\n" in shown
    user.type(b"echo ready; (exit 3)\r")
    user.await_text(b"ready\r\n")
    user.await_text(b"$ ")
    user.type(b"\x04")

    assert 3 == user.await_status()


@pytest.mark.parametrize("way", ["run", "exec"])
@pytest.mark.parametrize(("options", "shown"), [([], b"\x1b[31m"), (["--inert-output"], b"^[[31m")])
def test_inert_output(way, options, shown, sit):
    """
    Escape sequences reach the terminal, and with --inert-output are shown instead.
    """
    user = sit(way, "printf", r"\033[31mred", options=options)

    assert shown + b"red" == user.await_text(b"red")
    assert 0 == user.await_status()


@pytest.mark.parametrize(("way", "name"), [("run", "no-such"), ("exec", "no-such")])
def test_missing_program(way, name, sit):
    """
    A program that is not there is 127, said at a terminal that is as it was.
    """
    user = sit(way, name)

    user.await_text(b"No such program inside")
    assert 127 == user.await_status()


def test_killed(sit, tmp_path):
    """
    Where the sandbox is ended from outside the command ends, too, and the terminal is as it was.
    """
    user = sit("run", "sh", "-c", "echo up; exec sleep 1000", options=["--name", "mine"])
    user.await_text(b"up\r\n")
    assert 0 == subprocess.run([*JAIL, "kill", "mine"]).returncode

    assert user.await_status() in {125, 137}
