"""
A database server in the background of one sandbox, and its clients in other programs of it. PostgreSQL

Nothing of it is outside: its sockets are the sandbox's own, and so are its processes.
"""

import errno
import os
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest

import jail

pytestmark = [pytest.mark.needs("userns", "netns"), pytest.mark.program("initdb", "pg_ctl", "postgres")]

SECONDS = 60.0

CREATE = """
create table account (name text primary key, pence bigint check (pence >= 0));
insert into account values ('a', 100), ('b', 50);
"""
MOVE = "update account set pence = pence - 30 where name = 'a'; update account set pence = pence + 30 where name = 'b';"
BALANCES = "select name, pence from account order by name"
WAITING = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"


class Database:
    """
    PostgreSQL in a sandbox: its server, when that is up, and its clients.
    """

    def __init__(self, box):
        self.box = box
        self.programs = Path(shutil.which("initdb")).resolve().parent
        # Free outside too, so that nobody else answers there.
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        cmd = ["initdb", "--pgdata=data", "--username=me", "--auth=trust", "--no-sync"]
        self.run(*cmd).check()

    def command(self, program, *args):
        """
        One of its programs, as a command.
        """
        return [self.programs / program, *args]

    def run(self, *cmd, **fields):
        """
        Run one of its programs to its end.
        """
        return self.box.run(self.command(*cmd), text=True, **fields)

    def client(self, *args, host="/tmp"):
        """
        The command for a client.
        """
        where = [f"--host={host}", f"--port={self.port}", "--username=me"]
        plain = ["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]
        return self.command("psql", *where, *plain, *args, "postgres")

    def ask(self, question, **where):
        """
        What a client gets for an answer, as lines.
        """
        result = self.box.run(self.client(**where), input=question, text=True).check()
        assert "" == result.stderr
        return result.stdout.splitlines()

    def start(self):
        """
        Start the server in the background, and wait until it takes connections.
        """
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "/tmp",
            "fsync": "off",
        }
        cmd = self.command(
            "postgres", "-D", "data", *(f"--{name}={value}" for name, value in options.items())
        )
        server = self.box.popen(cmd, text=True, stderr=jail.PIPE)
        deadline = time.monotonic() + SECONDS
        while not self.run("pg_isready", "--host=/tmp", f"--port={self.port}").ok:
            assert None is server.poll()
            assert time.monotonic() < deadline
        return server


@pytest.fixture
def database(tmp_path):
    """
    A sandbox in which PostgreSQL was set up.
    """
    with jail.Sandbox("build", workspace=tmp_path, timeout=120) as box:
        yield Database(box)


def read_log(server, text):
    """
    The lines of the server's log, up to one with this text.
    """
    lines = []
    while not lines or text not in lines[-1]:
        line = server.stderr.readline()
        assert line, "the log has ended:\n" + "".join(lines)
        lines.append(line)
    return lines


def test_server(database):
    """
    It answers one program after another over both kinds of socket, ends cleanly, and has kept all when it is back.
    """
    server = database.start()
    read_log(server, "database system is ready to accept connections")

    assert [] == database.ask(CREATE)
    assert ["a|100", "b|50"] == database.ask(BALANCES)
    assert ["127.0.0.1"] == database.ask("select inet_server_addr()", host="127.0.0.1")
    assert [] == database.ask(f"begin; {MOVE} commit;", host="127.0.0.1")
    assert ["a|70", "b|80"] == database.ask(BALANCES)
    refused = database.box.run(database.client("--command", f"begin; {MOVE * 3} commit;"), text=True)
    assert (1, True) == (refused.exit_code, "violates check constraint" in refused.stderr)
    assert "violates check constraint" in read_log(server, "ERROR:")[-1]

    server.signal(signal.SIGTERM)  # to the postmaster alone: "smart" shutdown, pg_ctl(1)
    read_log(server, "database system is shut down")
    assert 0 == server.wait(SECONDS)
    server.close()

    server = database.start()
    assert ["a|70", "b|80"] == database.ask(BALANCES)
    assert not [line for line in read_log(server, "ready to accept") if "interrupted" in line]
    database.run("pg_ctl", "--pgdata=data", "--mode=fast", "--wait", "stop").check()
    read_log(server, "database system is shut down")
    assert 0 == server.wait(SECONDS)
    server.close()


def test_two_clients(database):
    """
    Two clients at once: one waits for the other's lock, and goes on when that is released.
    """
    server = database.start()
    database.ask(CREATE)
    cmd = database.client()
    with database.box.popen(cmd, text=True, stdin=jail.PIPE, stdout=jail.PIPE) as first:
        first.stdin.write(f"begin;\n{MOVE}\n\\echo moved\n")
        assert "moved\n" == first.stdout.readline()
        with database.box.popen(cmd, text=True, stdin=jail.PIPE) as second:
            second.stdin.write(f"begin; {MOVE} commit;\n{BALANCES};\n")
            second.stdin.close()
            deadline = time.monotonic() + SECONDS
            while ["1"] != database.ask(WAITING):
                assert time.monotonic() < deadline
            assert (None, ["a|100", "b|50"]) == (second.poll(), database.ask(BALANCES))
            first.stdin.write("commit;\n")
            first.stdin.close()

            assert ("a|40\nb|110\n", "") == second.communicate(timeout=SECONDS)
        assert 0 == first.wait(SECONDS)
    server.kill()
    assert 137 == server.wait(SECONDS)
    server.close()


def test_end_of_the_sandbox(database, eyes):
    """
    It is nowhere on the host while it runs, and all of it has ended within a second when the sandbox is closed.
    """
    server = database.start()
    client = database.box.popen(database.client("--command=select pg_sleep(1000)"))
    deadline = time.monotonic() + SECONDS
    while ["1"] != database.ask("select count(*) from pg_stat_activity where wait_event = 'PgSleep'"):
        assert time.monotonic() < deadline

    assert ["127.0.0.1"] == database.ask("select inet_server_addr()", host="127.0.0.1")  # the control
    with socket.socket() as outside:
        assert errno.ECONNREFUSED == outside.connect_ex(("127.0.0.1", database.port))
    assert [] == list(Path("/tmp").glob(f".s.PGSQL.{database.port}*"))
    inside = eyes.pidfds_below(os.getpid())
    assert 8 <= len(inside)
    started = time.monotonic()
    database.box.close()
    assert time.monotonic() - started < 1
    assert [] == eyes.survivors(inside, seconds=0)
    assert (jail.Killed(), jail.Killed()) == (client.outcome, server.outcome)
    server.close()
