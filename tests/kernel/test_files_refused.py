"""
What is no regular file, and what leads elsewhere, is neither read nor written by the harness. openat(2)
"""

import errno
import os
import select
import signal
import sys

import pytest

import jail
from jail.spawn import INIT_PATH

PYTHON = (sys.executable, "-I", "-S", "-c")


def tried(call, *args, patience=5, **options):
    """
    0, or the errno of what it raises, within so many seconds.
    """

    def late(*_):
        raise RuntimeError("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(patience)
    try:
        call(*args, **options)
    except OSError as exc:
        return exc.errno
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return 0


# What jail-init is made of cannot be written while it runs; nor by whoever does not own it.
BUSY = errno.ETXTBSY if os.access(INIT_PATH, os.W_OK) else errno.EACCES

# Errno of reading, writing, downloading and listing.
SPECIAL = {
    "file": (0, 0, 0, errno.ENOTDIR),  # the control
    "fifo": (errno.EINVAL, errno.ENXIO, errno.EINVAL, errno.ENOTDIR),
    "open fifo": (errno.EINVAL, errno.EINVAL, errno.EINVAL, errno.ENOTDIR),
    "socket": (errno.ENXIO, errno.ENXIO, errno.ENXIO, errno.ENOTDIR),
    "directory": (errno.EISDIR, errno.EISDIR, 0, 0),
    "/dev/zero": (errno.EINVAL, errno.EINVAL, errno.EINVAL, errno.ENOTDIR),
    "/dev/ptmx": (errno.EINVAL, errno.EINVAL, errno.ELOOP, errno.ENOTDIR),
    "/dev/tty": (errno.ENXIO, errno.ENXIO, errno.ENXIO, errno.ENOTDIR),
    "/dev/stdin": (errno.ENXIO, errno.ENXIO, errno.ELOOP, errno.ENOTDIR),
    "/proc/self/fd/0": (errno.ENXIO, errno.ENXIO, errno.ELOOP, errno.ENOTDIR),
    "/proc/self/fd/3": (errno.ENOENT, errno.ENOENT, errno.ENOENT, errno.ENOENT),
    "/proc/self/exe": (errno.EACCES, BUSY, errno.ELOOP, errno.ENOTDIR),
}
IN_PROC = ("/dev/stdin", "/proc/self/fd/0", "/proc/self/exe")


@pytest.mark.needs("userns", "landlock")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.needs("proc")] * (name in IN_PROC)) for name in SPECIAL]
)
def test_special(name, box, tmp_path):
    """
    What is no regular file is refused at once: it is neither waited for, nor read, nor written.
    """
    code = """
import os, socket, sys
os.mkfifo("fifo"); os.mkfifo("open fifo"); os.mkdir("directory"); open("file", "w").close()
socket.socket(socket.AF_UNIX).bind("socket")
held = os.open("open fifo", os.O_RDWR)
print("up", flush=True)
sys.stdin.read()
"""
    with box.popen([*PYTHON, code], stdin=jail.PIPE, stdout=jail.PIPE) as process:
        assert b"up\n" == process.stdout.readline()
        (tmp_path / "source").write_text("x")
        seen = (  # writing first: a FIFO that somebody still reads is another thing, EINVAL
            tried(box.write_file, name, "x"),
            tried(box.upload, tmp_path / "source", name),
            tried(box.read_file, name),
            tried(box.download, name, tmp_path / "target"),
            tried(box.list, name),
        )

    read, write, download, listed = SPECIAL[name]
    assert (write, write, read, download, listed) == seen


@pytest.mark.needs("userns")
def test_link(box, tmp_path):
    """
    A link means what it means inside: a host's file that is not shown is not there, and /etc/passwd is its own.
    """
    (tmp_path / "secret").write_text("secret")
    box.run(["ln", "-s", tmp_path / "secret", "secret"])
    box.run(["ln", "-s", "/etc/passwd", "passwd"])

    assert errno.ENOENT == tried(box.read_file, "secret")
    assert box.run(["cat", "passwd"]).stdout == box.read_file("passwd")
    assert errno.EROFS == tried(box.write_file, "passwd", "")
    assert errno.ELOOP == tried(box.download, "passwd", tmp_path)


@pytest.mark.needs("userns")
@pytest.mark.parametrize(
    ("make", "expected"),
    [
        ("touch tree/x", 0),
        ("ln -s /etc/passwd tree/x", errno.ELOOP),
        ("ln -s / tree/x", errno.ELOOP),
        ("mkfifo tree/x", errno.EINVAL),
    ],
)
def test_tree_with_more_than_files(make, expected, box, tmp_path):
    """
    A link, a FIFO or a device in a tree ends its copying, out of a sandbox as well as into one.
    """
    (tmp_path / "tree").mkdir()
    box.make_directory("tree")
    box.run(make, shell=True, check=True)
    assert 0 == os.system(f"cd {tmp_path} && {make}")

    assert expected == tried(box.download, "tree", tmp_path / "target")
    assert expected == tried(box.upload, tmp_path / "tree", "uploaded")
    assert (expected == 0) == box.exists("uploaded/x") == (tmp_path / "target/x").exists()


@pytest.mark.needs("userns")
def test_target_on_the_host(box, tmp_path):
    """
    Below the target of a download no link of the host's is followed; without one all arrives.
    """
    box.write_file("tree/d/f", "new", parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/f").write_text("old")
    for name, link, leads in (("one", "one", ""), ("two", "two/d", ""), ("three", "three/d/f", "f")):
        place = tmp_path / link
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(tmp_path / "outside" / leads)
        assert tried(box.download, "tree", tmp_path / name) in {errno.ENOTDIR, errno.ELOOP}

    assert ["f"] == os.listdir(tmp_path / "outside")
    assert "old" == (tmp_path / "outside/f").read_text()
    assert 0 == tried(box.download, "tree", tmp_path / "four")
    assert "new" == (tmp_path / "four/d/f").read_text()


@pytest.mark.needs("userns")
def test_deep_tree(box, tmp_path):
    """
    A tree of 1200 levels, which a program makes in no time, is neither copied nor a RecursionError, and can be
    removed.
    """
    dig = "import os\nfor _ in range({}): os.mkdir('d'); os.chdir('d')"
    box.run([*PYTHON, dig.format(1200)], check=True)

    assert errno.ENAMETOOLONG == tried(box.download, "d", tmp_path / "target")
    assert 0 == tried(box.remove, "d", recursive=True, patience=60)  # 2400 calls
    (tmp_path / "source").mkdir()
    assert 0 == os.system(f'cd {tmp_path}/source && {sys.executable} -c "{dig.format(200)}"')
    assert errno.ENAMETOOLONG == tried(box.upload, tmp_path / "source", "up")


@pytest.mark.needs("userns", "proc")
@pytest.mark.parametrize("name", ["environ", "maps", "auxv", "fd/0"])
def test_jail_init(name, box):
    """
    What procfs refuses to a program about jail-init it refuses to its harness, too.
    """
    path = f"/proc/1/{name}"
    inside = box.run(
        [*PYTHON, f"import sys\ntry: open({path!r})\nexcept OSError as exc: sys.exit(exc.errno)"]
    )

    assert (errno.EACCES, errno.EACCES) == (inside.exit_code, tried(box.read_file, path))


@pytest.mark.needs("userns")
def test_full_scratch():
    """
    A full tmpfs is ENOSPC, and a file that fits into it is written.
    """
    with jail.Sandbox(disk="1M") as box:
        box.write_file("/tmp/fits", b"x" * 500_000)

        assert errno.ENOSPC == tried(box.write_file, "/tmp/big", b"x" * 1_000_000)
        assert 500_000 == len(box.read_file("/tmp/fits"))


CALLS = {
    "read_file": ("f",),
    "write_file": ("f", ""),
    "list": (),
    "exists": ("f",),
    "make_directory": ("f",),
    "remove": ("f",),
    "upload": (__file__, "f"),
    "download": ("f", "/nowhere"),
}


@pytest.mark.needs("userns")
@pytest.mark.parametrize("name", CALLS)
def test_closed(name, tmp_path):
    """
    In a closed sandbox, and in one that was killed from outside, each is a JailError and no OSError of a file.
    """
    call, args = getattr(jail.Sandbox, name), [tmp_path / "x" if a == "/nowhere" else a for a in CALLS[name]]
    for kill in (False, True):
        with jail.Sandbox() as box:
            box.write_file("f", "")
            if kill:
                end(box)
            else:
                box.close()
            with pytest.raises(jail.JailError) as caught:
                call(box, *args)

        assert not isinstance(caught.value, OSError)
        assert ("closed", "ended")[kill] in str(caught.value)


def end(box):
    """
    Kill its jail-init, and wait until that is gone.
    """
    pidfd = box._session.init.pidfd
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll()


@pytest.mark.needs("userns")
@pytest.mark.parametrize("name", set(CALLS) - {"list"})
def test_nul(name, box, tmp_path):
    """
    A path with a NUL in it is a ValueError, and nothing is done with what stands before it.
    """
    box.write_file("f", "text")
    args = list(CALLS[name])
    args[args.index("f")] = "f\0g"
    with pytest.raises(ValueError):
        getattr(box, name)(*args)

    assert b"text" == box.read_file("f")
