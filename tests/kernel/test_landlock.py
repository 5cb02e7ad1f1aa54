"""
The second wall around the files, and the first where there are no mounts, by itself. landlock(7)

The ops are written by hand and carried out without any namespace, so that nothing else can be what refuses.
"""

import errno
import sys

import pytest

import jail
from jail.command import Exec
from jail.confine import Access
from jail.exchange import Exchange
from jail.loop import Loop
from jail.ops import Op, OpKind
from jail.spawn import spawn_init

pytestmark = pytest.mark.needs("landlock")

TRUNCATES = jail.probe().landlock_abi >= 3
ALL = Access.TRUNCATE * 2 - 1 if TRUNCATES else Access.TRUNCATE - 1  # as of ABI 3, or 2
FILE = (Access.EXECUTE | Access.WRITE_FILE | Access.READ_FILE | Access.TRUNCATE) & ALL
READ = Access.EXECUTE | Access.READ_FILE | Access.READ_DIR

# Each does something with the tree in argv[1], which holds f, d/f, an empty directory e and a program p.
ACTS = {
    Access.EXECUTE: "os.execv(t + '/p', ['p'])",
    Access.WRITE_FILE: "os.open(t + '/f', os.O_WRONLY)",
    Access.READ_FILE: "os.open(t + '/f', os.O_RDONLY)",
    Access.READ_DIR: "os.listdir(t + '/d')",
    Access.REMOVE_DIR: "os.rmdir(t + '/e')",
    Access.REMOVE_FILE: "os.unlink(t + '/f')",
    Access.MAKE_DIR: "os.mkdir(t + '/new')",
    Access.MAKE_REG: "os.mknod(t + '/new')",
    Access.MAKE_SOCK: "socket.socket(socket.AF_UNIX).bind(t + '/new')",
    Access.MAKE_FIFO: "os.mkfifo(t + '/new')",
    Access.MAKE_SYM: "os.symlink('f', t + '/new')",
    **({Access.TRUNCATE: "os.truncate(t + '/f', 0)"} if TRUNCATES else {}),
}
ATTEMPT = (
    "import os, socket, sys\nt = sys.argv[2]\ntry: exec(sys.argv[1])\nexcept OSError as e: sys.exit(e.errno)"
)


@pytest.fixture
def room(tree):
    """
    Runs a line of Python on the tree with some rights to it, and with all rights to everything it needs to run.
    """
    (tree / "e").mkdir()
    (tree / "p").write_text("#!/bin/sh\n")
    (tree / "p").chmod(0o755)

    def room(code, access, *, place=tree, handled=ALL, ops=()):
        needed = ("/usr", "/lib", "/lib64", "/bin", "/etc", "/proc", *jail.probe().interpreter)
        setup = [
            Op(OpKind.NO_NEW_PRIVS),
            Op(OpKind.LANDLOCK_RULESET, args=(int(handled), 0, 0)),
            *(Op(OpKind.LANDLOCK_PATH, p, args=(int(READ), int(READ & FILE)), optional=True) for p in needed),
            Op(OpKind.LANDLOCK_PATH, "/dev/null", args=(int(FILE), int(FILE))),
            Op(OpKind.LANDLOCK_PATH, str(place), args=(int(access), int(access & FILE))),
            *ops,
        ]
        init = spawn_init(0, 0, setup, [Op(OpKind.LANDLOCK_RESTRICT)])
        try:
            args = [sys.executable, "-I", "-S", "-c", ATTEMPT, code, str(tree)]
            exchange, loop = Exchange(init, 1, Exec(args=args, env={}, directory="/")), Loop()
            exchange.attach(loop)
            loop.run_until(lambda: exchange.is_over)
            if exchange.error:
                raise exchange.error
            assert b"" == exchange.execution.output()[1]
            return exchange.execution.outcome.exit_code
        finally:
            init.close()

    return room


@pytest.mark.parametrize("right", ACTS, ids=lambda right: right.name)
def test_right(right, room):
    """
    Each right allows its own act, and without it that act is EACCES.
    """
    assert errno.EACCES == room(ACTS[right], ALL & ~right)
    assert 0 == room(ACTS[right], right | Access.READ_FILE)


@pytest.mark.parametrize("act", ["os.rename(t + '/f', t + '/d/new')", "os.link(t + '/f', t + '/d/new')"])
def test_refer(act, room):
    """
    To move or link a file to another directory takes REFER on both, and is EXDEV without.
    """
    assert errno.EXDEV == room(act, ALL & ~Access.REFER)
    assert 0 == room(act, ALL)


def test_rule_for_a_file(tree, room):
    """
    A rule for a file allows what it says on that file, and nothing beside it.
    """
    assert 0 == room("os.open(t + '/f', os.O_RDONLY)", ALL, place=tree / "f")
    assert errno.EACCES == room("os.open(t + '/d/f', os.O_RDONLY)", ALL, place=tree / "f")


def test_not_handled(room):
    """
    A right that the ruleset does not handle is not taken away.
    """
    assert errno.EACCES == room("os.mkdir(t + '/new')", READ)
    assert 0 == room("os.mkdir(t + '/new')", READ, handled=ALL & ~Access.MAKE_DIR)


def test_missing_path(tree, room):
    """
    A rule for a path that is missing is a fault that names it, unless the op is optional.
    """
    missing = Op(OpKind.LANDLOCK_PATH, str(tree / "missing"), args=(int(READ), 0))
    with pytest.raises(jail.SetupError) as caught:
        room("pass", ALL, ops=[missing])

    assert (errno.ENOENT, str(tree / "missing")) == (caught.value.errno, caught.value.path)
    assert 0 == room("pass", ALL, ops=[Op(missing.kind, missing.path, args=missing.args, optional=True)])


def without_landlock(setup):
    """
    A plan's ops but for those of this room.
    """
    return [op for op in setup if not op.kind.name.startswith("LANDLOCK")]
