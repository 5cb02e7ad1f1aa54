"""
A person at a terminal, who is tmux: its pane is a real terminal, and what is on its screen is what a person would see.
"""

import os
import select
import shlex
import subprocess
import time

SECONDS = 30.0

# Leads the session at the pane's terminal, as a shell does: it stays when its program has ended, and says how
# the terminal is then.
LEADER = """
stty -a > before; echo 'on the screen before'; "$@"; echo "status:$?"; stty -a > after; echo looked; read line
"""


class Pane:
    """
    A pane of a tmux server of its own, in which a program runs, with `directory` as its working directory.
    """

    def __init__(self, directory, cmd, env):
        self.directory = directory
        self.env = env
        self.socket = directory / "tmux"
        leader = shlex.join(["sh", "-c", LEADER, "sh", *map(os.fspath, cmd)])
        # Whatever is shown goes through this pipe too: that is when to look again.
        os.mkfifo(directory / "shown")
        self.shown = os.open(directory / "shown", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.tmux("new-session", "-d", "-x", "80", "-y", "24", f"read line; {leader}")
        self.server = os.pidfd_open(int(self.tmux("display-message", "-p", "#{pid}")))
        self.tmux("pipe-pane", f"exec cat > {shlex.quote(str(directory / 'shown'))}")
        self.type("", "Enter")

    def tmux(self, *args):
        """
        One command to the server.
        """
        cmd = ["tmux", "-S", self.socket, "-f", "/dev/null", *args]
        done = subprocess.run(cmd, env=self.env, cwd=self.directory, capture_output=True, text=True)
        assert ("", 0) == (done.stderr, done.returncode)
        return done.stdout

    def type(self, text, *keys):
        """
        Type some text, and then keys by tmux's names for them, such as Enter and C-c.
        """
        if text:
            self.tmux("send-keys", "-l", text)
        if keys:
            self.tmux("send-keys", *keys)

    def screen(self):
        """
        The lines on the screen, without those at its end that are empty.
        """
        return [line.rstrip() for line in self.tmux("capture-pane", "-p").rstrip("\n").split("\n")]

    def await_screen(self, is_right):
        """
        Wait until the screen is as it should be, and give its lines.
        """
        deadline = time.monotonic() + SECONDS
        while not is_right(lines := self.screen()):
            ready, _, _ = select.select([self.shown], [], [], max(0, deadline - time.monotonic()))
            assert ready, "never shown, but:\n" + "\n".join(lines)
            os.read(self.shown, 1 << 20)
        return lines

    def await_line(self, *wanted):
        """
        Wait until these lines are the last on the screen, and give all of it.
        """
        return self.await_screen(lambda lines: list(wanted) == lines[-len(wanted) :])

    def await_end(self, status):
        """
        Wait until the program has ended, with this status; the terminal is as it was before, and can be used.
        """
        lines = self.await_screen(lambda lines: "looked" in lines)
        assert f"status:{status}" == lines[lines.index("looked") - 1]
        assert (self.directory / "before").read_text() == (self.directory / "after").read_text()
        self.type("echoed")
        self.await_line("echoed")
        return lines

    def end(self):
        """
        Leave nothing.
        """
        self.tmux("kill-server")
        assert select.select([self.server], [], [], SECONDS)[0]
        os.close(self.server)
        os.close(self.shown)
