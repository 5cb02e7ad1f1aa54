"""
What is private to a sandbox: /tmp, /var/tmp, /dev/shm and the home, bounded together. tmpfs(5)
"""

import errno
import os

import pytest

import jail

pytestmark = pytest.mark.needs("userns")

PRIVATE = ["/tmp", "/var/tmp", "/dev/shm"]


@pytest.fixture
def home(inside):
    """
    The home inside, which has the path of the caller's where he has one.
    """
    return inside("import json, os; print(json.dumps(os.environ['HOME']))")


@pytest.mark.parametrize("place", [*PRIVATE, "home"])
def test_private(place, home, inside, tmp_path):
    """
    A private directory starts empty but for what a rule shows in it, is writable, and keeps nothing outside.
    """
    place = home if place == "home" else place
    with jail.Sandbox(read=[tmp_path]) as box:
        shown = {
            op.path for op in box.plan.setup if op.kind.name in ("BIND", "WRITABLE", "DIRECTORY", "SYMLINK")
        }
        expected = {path[len(place) + 1 :].split("/")[0] for path in shown if path.startswith(place + "/")}
        code = "import json, os, sys; os.chdir(sys.argv[1]); print(json.dumps(os.listdir())); open('jail-left', 'w')"
        assert expected == set(inside(code, place, box=box))
        assert expected | {"jail-left"} == set(inside(code, place, box=box))  # one sandbox, one place
        assert expected == set(inside(code, place, read=[tmp_path]))  # another sandbox, another place

    assert not os.path.exists(f"{place}/jail-left")


@pytest.mark.parametrize(("place", "mode"), [*((place, 0o41777) for place in PRIVATE), ("home", 0o40700)])
def test_modes(place, mode, home, inside):
    """
    Modes are those of the places that they stand for.
    """
    code = "import json, os, sys; st = os.stat(sys.argv[1]); print(json.dumps([st.st_mode, st.st_uid == os.getuid()]))"

    assert [mode, True] == inside(code, home if place == "home" else place)


@pytest.mark.parametrize(
    ("size", "expected"),
    [pytest.param("8M", 0, id="allow_below"), pytest.param("2M", errno.ENOSPC, id="deny_beyond")],
)
@pytest.mark.parametrize("place", PRIVATE)
def test_size(size, expected, place, attempt):
    """
    Writing beyond the policy's scratch is ENOSPC.
    """
    write = "with open(sys.argv[1] + '/f', 'wb') as f: f.write(b'x' * (4 << 20))"

    assert expected == attempt(write, place, disk=size)


def test_size_is_one_for_all(attempt):
    """
    The size bounds all private places together.
    """
    write = "with open('{}/f', 'wb') as f: f.write(b'x' * (3 << 20))"
    with jail.Sandbox(disk="5M") as box:
        assert 0 == attempt(write.format("/tmp"), box=box)
        assert errno.ENOSPC == attempt(write.format("/dev/shm"), box=box)
        assert 0 == attempt("os.unlink('/tmp/f')\n" + write.format("/dev/shm"), box=box)


@pytest.mark.parametrize(
    ("count", "expected"),
    [pytest.param(900, 0, id="allow_some"), pytest.param(1100, errno.ENOSPC, id="deny_many")],
)
def test_inodes(count, expected, attempt):
    """
    Empty files are bounded too: an inode costs memory that a size does not count.
    """
    assert expected == attempt(
        "for i in range(int(sys.argv[1])): os.mknod(f'/tmp/{i}')", str(count), disk="1M"
    )


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        pytest.param("/tmp", 0, id="allow_tmp"),
        pytest.param("/", errno.EROFS, id="deny_root"),
        pytest.param("/dev", errno.EROFS, id="deny_dev"),
        pytest.param("/var", errno.EROFS, id="deny_var"),
    ],
)
def test_skeleton(place, expected, attempt):
    """
    The directories that lead to the shown ones are read-only.
    """
    assert expected == attempt("os.mkdir(os.path.join(sys.argv[1], 'new'))", place)


@pytest.mark.parametrize(
    "place", ["/run", "/opt", "/srv", "/mnt", "/boot", "/var/log", "/var/lib/dpkg", "/etc/shadow"]
)
def test_not_shown(place, attempt):
    """
    Places with other people's data do not exist, or cannot be opened where a visible directory has them.
    """
    expected = errno.EACCES if place == "/etc/shadow" and os.path.exists(place) else errno.ENOENT

    assert expected == attempt("os.close(os.open(sys.argv[1], os.O_RDONLY))", place)


def test_programs_run_from_scratch(attempt):
    """
    A program that was written to a private place can be executed, as builds need it.
    """
    code = """
with open('/tmp/p', 'w') as f: f.write('#!/bin/sh\\nexit 0\\n')
os.chmod('/tmp/p', 0o700)
assert os.spawnl(os.P_WAIT, '/tmp/p', 'p') == 0
"""
    assert 0 == attempt(code)
