"""
What covers or protects the host's files, and is taken away by the host: the sandbox ends. `csrc/cover.c`

The kernel detaches a mount when its mount point is unlinked or renamed over in another mount namespace, and takes it
along when the mount point is renamed away.
"""

import asyncio
import errno
import select
import time

import pytest

import jail
import jail.aio

pytestmark = pytest.mark.needs("userns")

READ = "print(open(sys.argv[1]).read())"
CREATE = "open(sys.argv[1] + '/new', 'w').close()"


def put(path, text="NEW"):
    """
    A file, and the directories above it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def replace(place):
    """
    As an editor saves: another file is renamed over it.
    """
    put(place.with_name("other"))
    place.with_name("other").rename(place)


def remake(place):
    """
    It is unlinked and made anew.
    """
    place.unlink()
    put(place)


def back_up(place):
    """
    As an editor saves that keeps the old one: it is renamed away. Of this the kernel tells nobody.
    """
    place.rename(place.with_name("backup"))
    put(place)


def back_up_parent(place):
    """
    The same with the directory that it is in.
    """
    place.parent.rename(place.parent.with_name("backup"))
    put(place)


def remove(place):
    """
    It is gone, and nothing is in its place yet.
    """
    place.unlink()


FILE_WAYS = [replace, remake, back_up, back_up_parent, remove]


def replace_directory(place):
    """
    An empty directory is replaced by one that is not.
    """
    put(place.with_name("other") / "f")
    place.with_name("other").rename(place)


def remake_directory(place):
    """
    A directory is removed and made anew.
    """
    place.rmdir()
    put(place / "f")


def back_up_directory(place):
    """
    A directory is renamed away and made anew.
    """
    back = place.with_name("backup")
    place.rename(back)
    put(place / "f")


DIRECTORY_WAYS = [replace_directory, remake_directory, back_up_directory]


@pytest.fixture
def secret(tree):
    """
    ``d/deep/secret`` in a tree.
    """
    put(tree / "d/deep/secret", "OLD")
    return tree / "d/deep/secret"


@pytest.fixture
def hooks(tree):
    """
    An empty directory ``d/hooks`` in a tree.
    """
    (tree / "d/hooks").mkdir()
    return tree / "d/hooks"


@pytest.mark.parametrize("key", ["read", "write"])
@pytest.mark.parametrize("way", FILE_WAYS)
def test_deny_file(way, key, tree, secret, attempt):
    """
    Nobody reads what has come in the place of a denied file: the next program is refused, with the path and the reason.
    """
    with jail.Sandbox(**{key: [tree]}, deny=[secret]) as box:
        assert errno.EACCES == attempt(READ, secret, box=box)
        way(secret)
        for _ in range(2):  # and it stays so
            with pytest.raises(jail.JailError, match=f"^{secret}: .* on the host while the sandbox lived"):
                attempt(READ, secret, box=box)


@pytest.mark.parametrize("way", DIRECTORY_WAYS)
def test_deny_directory(way, tree, hooks, attempt):
    """
    Nor what is in a directory that has come in the place of a denied one.
    """
    with jail.Sandbox(read=[tree], deny=[hooks]) as box:
        assert errno.EACCES == attempt("os.listdir(sys.argv[1])", hooks, box=box)
        way(hooks)
        with pytest.raises(jail.JailError, match=f"^{hooks}: "):
            attempt("os.listdir(sys.argv[1])", hooks, box=box)


@pytest.mark.parametrize("way", DIRECTORY_WAYS)
def test_deny_writing(way, tree, hooks, attempt):
    """
    Nor does anybody write where a read-only directory in a writable one was replaced.
    """
    with jail.Sandbox(write=[tree], read=[hooks]) as box:
        assert errno.EROFS == attempt(CREATE, hooks, box=box)
        way(hooks)
        with pytest.raises(jail.JailError, match=f"^{hooks}: "):
            attempt(CREATE, hooks, box=box)
    assert not (hooks / "new").exists()


@pytest.mark.parametrize("way", FILE_WAYS)
def test_allow_neighbour(way, tree, secret, attempt):
    """
    What happens to a file beside it ends nothing, nor does a new mode, or other contents, of the very file.
    """
    put(tree / "n/deep/f", "OLD")
    with jail.Sandbox(read=[tree], deny=[secret]) as box:
        way(tree / "n/deep/f")
        secret.write_text("other")
        secret.chmod(0o644)
        assert errno.EACCES == attempt(READ, secret, box=box)
        assert (errno.ENOENT if way is remove else 0) == attempt(READ, tree / "n/deep/f", box=box)


@pytest.mark.parametrize("way", FILE_WAYS)
def test_allow_without_deny(way, tree, secret, attempt):
    """
    A sandbox that denies nothing there sees what is there now.
    """
    with jail.Sandbox(read=[tree]) as box:
        assert 0 == attempt(READ, secret, box=box)
        way(secret)
        assert (errno.ENOENT if way is remove else 0) == attempt(READ, secret, box=box)


@pytest.mark.parametrize("way", DIRECTORY_WAYS)
def test_allow_less(way, tree, hooks, attempt):
    """
    A mount without which a program may do less is nobody's reason to end, although the kernel tells of it.
    """
    with jail.Sandbox(read=[tree], write=[hooks], deny=[tree / "f"]) as box:
        assert 0 == attempt(CREATE, hooks, box=box)
        (hooks / "new").unlink()
        way(hooks)
        assert errno.EACCES == attempt(READ, tree / "f", box=box)
        assert errno.EROFS == attempt(CREATE, hooks, box=box)


@pytest.mark.parametrize("way", FILE_WAYS)
def test_report_while_running(way, tree, secret):
    """
    A program that runs is ended, soon, and its caller hears why.
    """
    with jail.Sandbox(read=[tree], deny=[secret]) as box, box.popen(["/bin/sleep", "1000"]) as process:
        assert 0 == box.run(["true"]).exit_code
        way(secret)
        began = time.monotonic()
        with pytest.raises(jail.JailError, match=f"^{secret}: "):
            process.wait(timeout=10)
        assert time.monotonic() - began < 5


def test_report_at_once_while_idle(tree, secret):
    """
    Where the kernel tells of it nothing needs to run.
    """
    with jail.Sandbox(read=[tree], deny=[secret]) as box:
        box.run(["true"])
        replace(secret)
        poll = select.poll()
        poll.register(box._session.init.pidfd, select.POLLIN)
        assert poll.poll(5000)


def test_report_to_files(tree, secret):
    """
    A file of the sandbox is not opened either.
    """
    with jail.Sandbox(read=[tree], deny=[secret]) as box:
        assert b"text" == box.read_file(tree / "f")
        back_up(secret)
        with pytest.raises(jail.JailError, match=f"^{secret}: "):
            box.read_file(secret)


async def report_awaited(tree, secret):
    """
    As a coroutine.
    """
    async with jail.aio.Sandbox(read=[tree], deny=[secret]) as box:
        assert 0 == (await box.run(["true"])).exit_code
        replace(secret)
        with pytest.raises(jail.JailError, match=f"^{secret}: "):
            await box.run(["cat", secret])


def test_report_awaited(tree, secret):
    """
    `jail.aio` says the same.
    """
    asyncio.run(report_awaited(tree, secret))


# What a sandbox says before and after its secret was replaced, moved or made anew; and how it ends.
ELSEWHERE = """
import json, os, sys, jail
tree, way = sys.argv[1:]
secret = tree + "/secret"
said = [*sorted(jail.probe().features & {"userns", "proc"})]
with jail.Sandbox(read=[tree], deny=[secret]) as box:
    try:
        for _ in range(2):
            result = box.run([sys.executable, "-I", "-S", "-c", "import sys; print(open(sys.argv[1]).read())", secret])
            said.append("Permission denied" in result.stderr.text and not result.stdout.text)
            said.append(box.run(["cat", tree + "/f"]).stdout.text)
            if way == "away":
                os.rename(secret, tree + "/backup")
            with open(tree + "/new", "w") as file:
                file.write("NEW")
            os.rename(tree + "/new", secret)
    except jail.JailError as exc:
        said.append(str(exc).partition(":")[0])
print(json.dumps(said))
"""

MASKED = 'mount(b"none", "/proc/sys", b"tmpfs")\n'  # as containers do: no fresh /proc is to be had then


@pytest.mark.parametrize("way", ["over", "away"])
def test_deny_where_proc_is_masked(way, tree, ask_harness, own_mounts):
    """
    The same where a sandbox has no /proc of its own, as in a container.
    """
    (tree / "secret").write_text("OLD")

    found = ask_harness(own_mounts + MASKED + ELSEWHERE, tree, way)

    assert ["userns", True, "text", str(tree / "secret")] == found


@pytest.mark.needs("landlock_abi_6", "libseccomp")
@pytest.mark.parametrize("way", ["over", "away"])
def test_deny_without_namespaces(way, tree, ask_harness, container):
    """
    Landlock's rules are about what was there at the start, and no more is allowed: what is new is denied by itself.
    """
    source, options = container
    (tree / "secret").write_text("OLD")

    found = ask_harness(source + ELSEWHERE, tree, way, **options)

    assert [True, "text"] * 2 == found
