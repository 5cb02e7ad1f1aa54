"""
Programs that live at a terminal, used as a person uses them: typed at, looked at, stopped, resized. pty(7), tmux(1)

The person is tmux: its pane is a real terminal, and what is on its screen is what a person would see.
"""

import os
import select
import time

import pytest

import jail

pytestmark = pytest.mark.needs("userns")

SECONDS = 30.0

# Says what size its terminal has whenever that changes.
SHOW_SIZES = """sh -c 'trap "stty size" WINCH; echo up; while :; do sleep 1000 & wait; done'"""


@pytest.fixture
def shell(pane):
    """
    A pane with a shell in a sandbox, whose prompt is ``box>``.
    """

    def shell(*args):
        one = pane("shell", *args)
        one.await_screen(lambda lines: lines[-1].endswith(("$", "#")))
        one.type("PS1='box''> '", "Enter")
        one.await_line("box>")
        return one

    return shell


@pytest.mark.program("tmux", "bash", "stty")
def test_job_control(shell):
    """
    A job is stopped, listed, brought back and interrupted with the usual keys, and Ctrl-D ends the shell.
    """
    one = shell()
    one.type("echo up; cat", "Enter")
    one.await_line("up")
    one.type("first", "Enter")
    one.await_line("first", "first")
    one.type("", "C-z")
    one.await_line("[1]+  Stopped                 cat", "box>")
    one.type("jobs", "Enter")
    one.await_line("box> jobs", "[1]+  Stopped                 cat", "box>")
    one.type("fg", "Enter")
    one.await_line("box> fg", "cat")
    one.type("second", "Enter")
    one.await_line("second", "second")
    one.type("", "C-c")
    one.await_line("^C", "box>")
    one.type("echo $?; jobs", "Enter")
    one.await_line("box> echo $?; jobs", "130", "box>")
    one.type("sleep 1000 & cat", "Enter")
    one.await_screen(lambda lines: lines[-1].startswith("[1] "))
    one.type("third", "Enter")
    one.await_line("third", "third")
    one.type("", "C-c")
    one.await_line("^C", "box>")
    one.type("jobs; kill %1; wait %1; echo $?", "Enter")
    running = "[1]+  Running                 sleep 1000 &"
    # bash says "Terminated" before the status, after it, or not at all: it depends on who is first to see the end.
    one.await_screen(lambda lines: running in lines and "143" in lines and lines[-1] == "box>")
    one.type("(exit 7)", "Enter")
    one.await_line("box> (exit 7)", "box>")
    one.type("", "C-d")

    assert ["exit", "status:7"] == one.await_end(7)[-3:-1]


@pytest.mark.program("tmux", "bash", "stty")
def test_resize(shell):
    """
    The size of the pane is the program's from the start, and each change is seen, by signal and when asked.
    """
    one = shell()
    one.type(f"stty size; {SHOW_SIZES}", "Enter")
    one.await_line("24 80", "up")
    one.tmux("resize-window", "-x", "100", "-y", "30")
    one.await_line("30 100")
    one.type("", "C-c")
    one.await_line("^C", "box>")
    one.type(f"stty size; echo $LINES $COLUMNS; {SHOW_SIZES}", "Enter")
    one.await_line("30 100", "30 100", "up")
    one.tmux("resize-window", "-x", "80", "-y", "24")
    one.await_line("24 80")
    one.type("", "C-c")
    one.await_line("^C", "box>")
    one.type("", "C-d")
    one.await_end(130)


@pytest.mark.program("tmux", "stty", "python3")
def test_python(pane):
    """
    In Python's prompt a line is edited and an older one brought back, and Ctrl-D ends it.
    """
    one = pane("run", "-it", "--", "python3", "-q")
    one.await_line(">>>")
    one.type("10 + 2", "Home")
    one.type("1", "End", "BSpace")
    one.type("3", "Enter")
    one.await_line(">>> 110 + 3", "113", ">>>")
    one.type("", "Up", "Home")
    one.type("2", "Enter")
    one.await_line(">>> 2110 + 3", "2113", ">>>")
    one.type("input('? ')", "Enter")
    one.await_line("?")
    one.type("typed", "Enter")
    one.await_line("? typed", "'typed'", ">>>")
    one.type("", "C-d")
    one.await_end(0)


@pytest.mark.program("tmux", "stty", "less")
def test_less(pane, tmp_path):
    """
    Less shows page after page and finds, on a screen of its own; when it has ended the old one is back.
    """
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "lines").write_text("".join(f"line {n}\n" for n in range(1, 10001)))
    one = pane("run", "-t", "--workspace", workspace, "--", "less", "lines")

    assert [f"line {n}" for n in range(1, 24)] == one.await_line("lines")[:-1]
    one.type(" ")
    assert [f"line {n}" for n in range(24, 47)] == one.await_line(":")[:-1]
    one.type("/line 5000", "Enter")
    one.await_screen(lambda lines: ["line 5000", ":"] == [lines[0], lines[-1]])
    one.type("G")
    one.await_line("line 10000", "(END)")
    one.type("q")
    assert ["on the screen before", "status:0", "looked"] == one.await_end(0)[-3:]


@pytest.mark.program("tmux", "stty", "vim.tiny")
def test_vim(pane, tmp_path):
    """
    Vim edits a file of a writable workspace, and the file has what was typed.
    """
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "file").write_text("old\n")
    one = pane("run", "-t", "--profile", "build", "--workspace", workspace, "--", "vim.tiny", "file")
    one.await_screen(lambda lines: "old" == lines[0] and lines[-1].startswith('"file"'))
    one.type("onew, and more")
    one.await_screen(lambda lines: ["old", "new, and more", "~"] == lines[:3])
    one.type("", "Escape")
    one.await_screen(lambda lines: "INSERT" not in lines[-1])
    one.type("bbDkp:wq")
    one.await_screen(lambda lines: ":wq" == lines[-1])
    one.type("", "Enter")

    assert ["on the screen before", "status:0", "looked"] == one.await_end(0)[-3:]
    assert "oldand more\nnew, \n" == (workspace / "file").read_text()
    assert ["file"] == os.listdir(workspace)


@pytest.mark.program("tmux", "bash", "stty")
def test_second_terminal(shell, pane):
    """
    From a second terminal another program joins the sandbox: each has its own, and both are one user's.
    """
    one = shell("--name", "both")
    one.type("echo here > ~/file; tty", "Enter")
    one.await_screen(lambda lines: lines[-1] == "box>" and lines[-2].startswith("/dev/pts/"))
    here = one.screen()[-2]
    other = pane("exec", "-it", "both", "--", "bash", "-i")
    other.await_screen(lambda lines: lines[-1].endswith(("$", "#")))
    other.type("PS1='two''> '; cat ~/file; tty", "Enter")
    other.await_screen(lambda lines: lines[-1] == "two>" and lines[-3] == "here")
    assert here != other.screen()[-2]
    other.type("", "C-d")
    other.await_end(0)
    one.type("", "C-d")
    one.await_end(0)


class Conversation:
    """
    A program at a terminal that is nobody's but this process's.
    """

    def __init__(self, process):
        self.process = process
        self.shown = ""

    def type(self, keys):
        """
        Type.
        """
        self.process.stdin.write(keys.encode())

    def await_shown(self, text):
        """
        Wait until this is shown, and forget all up to its end.
        """
        deadline = time.monotonic() + SECONDS
        while text not in self.shown:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{text!r} is not in {self.shown!r}"
            piece = self.process.stdout.read1(65536)
            assert piece, f"{text!r} is not in {self.shown!r}, and no more comes"
            self.shown += piece.decode()
        self.shown = self.shown.partition(text)[2]


@pytest.mark.program("bash", "stty")
def test_popen():
    """
    So it is with a terminal that popen gives: jobs are controlled by what is written to it, and sizes change.
    """
    cmd = ["bash", "--norc", "-i"]
    with jail.Sandbox(env={"PS1": "box> ", "TERM": "dumb"}) as box:
        process = box.popen(cmd, pty=True, size=(30, 100), stdin=jail.PIPE, stdout=jail.PIPE)
        one = Conversation(process)
        one.await_shown("box> ")
        one.type("stty size; echo up; cat\n")
        one.await_shown("30 100\r\nup\r\n")
        one.type("first\n")
        one.await_shown("first\r\nfirst\r\n")
        one.type("\x1a")
        one.await_shown("[1]+  Stopped                 cat\r\nbox> ")
        process.resize(40, 120)
        one.type("stty size; fg\n")
        one.await_shown("40 120\r\ncat\r\n")
        one.type("second\n\x04")
        one.await_shown("second\r\nsecond\r\nbox> ")
        one.type("echo up; cat; echo not reached\n")
        one.await_shown("up\r\n")
        one.type("third\n")
        one.await_shown("third\r\nthird\r\n")
        one.type("\x03")
        one.await_shown("^C\r\nbox> ")
        one.type("(exit 7)\n")
        one.await_shown("box> ")
        one.type("\x04")
        one.await_shown("exit\r\n")

        assert (7, b"") == (process.wait(SECONDS), process.stdout.read1())
        process.close()


@pytest.mark.parametrize("text", [False, True], ids=["bytes", "text"])
def test_read_to_the_end(text):
    """
    What a terminal has shown is read to its end in one call, as from a pipe.
    """
    with jail.Sandbox() as box:
        process = box.popen(["seq", "3"], pty=True, text=text, stdout=jail.PIPE)
        shown = process.stdout.read()
        process.wait(SECONDS)
        process.close()

    assert ("1\r\n2\r\n3\r\n" if text else b"1\r\n2\r\n3\r\n") == shown
