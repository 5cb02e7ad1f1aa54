"""
Files of a sandbox, read and written by its harness: a name means what it means to a program inside. openat(2)
"""

import errno
import json
import os

import pytest

# Runs a piece of Python with a live sandbox `box` and a `place` on the host, and prints `seen`. No call may
# take more than five seconds, and no descriptor may be left.
HARNESS = """
import errno, jail, json, os, signal, sys
from pathlib import Path
place, rules, code = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3]
PYTHON = [sys.executable, "-I", "-S", "-c"]
OPEN = "import os, sys\\ntry: os.open(sys.argv[1], int(sys.argv[2]))\\nexcept OSError as exc: sys.exit(exc.errno)"
def late(*_): raise RuntimeError("it hangs")
signal.signal(signal.SIGALRM, late)
def tried(call, *args, **options):
    signal.alarm(5)
    try: call(*args, **options)
    except jail.JailError as exc: raise RuntimeError("no OSError of its own") from exc
    except OSError as exc: return exc.errno
    finally: signal.alarm(0)
    return 0
def opened_inside(path, flags=0):
    result = box.run([*PYTHON, OPEN, str(path), str(flags)])
    assert not result.stderr, result.stderr
    return result.exit_code
def descriptors(): return sorted(os.listdir("/proc/self/fd"))
with jail.Sandbox(**rules) as box:
    home, tmp = box.run('printf "%s\\n%s" "$HOME" "$TMPDIR"', shell=True, text=True).stdout.split()
    before = descriptors()
    exec(code)
    assert descriptors() == before, (before, descriptors())
print(json.dumps(seen))
"""
TIERS = [
    pytest.param("namespaces", marks=pytest.mark.needs("userns")),
    pytest.param("landlock", marks=pytest.mark.needs("landlock_abi_6", "libseccomp")),
]


@pytest.fixture(params=TIERS)
def tier(request):
    """
    What the sandbox stands on.
    """
    return request.param


@pytest.fixture
def told(tier, ask_harness, container, tmp_path):
    """
    Runs a piece of Python, as `HARNESS` has it, and gives what it has seen.
    """
    prelude, options = container if tier == "landlock" else ("", {})
    place = tmp_path / "place"
    (place / "work").mkdir(parents=True)
    (place / "shown").mkdir()
    (place / "shown/f").write_text("shown")
    (place / "shown/hidden").write_text("hidden")
    (place / "secret").write_text("secret")

    def told(code, **rules):
        rules = json.dumps(rules, default=os.fspath)
        return ask_harness(prelude + HARNESS, place, rules, code, **options)

    told.place = place
    return told


def writable(place, **rules):
    """
    The policy of a sandbox that may write its workspace.
    """
    return {"workspace": place / "work", "workspace_access": "write", **rules}


def test_content(told):
    """
    Bytes come back as they were written, text as UTF-8, and a shorter file replaces a longer one.
    """
    code = """
seen = []
for data in (bytes(range(256)) * 9000, "h\\u00e4\\n", b"", "\\U0001f40d"):
    box.write_file("f", data)
    seen.append(box.read_file("f") == (data.encode() if isinstance(data, str) else data))
"""
    assert [True] * 4 == told(code)


@pytest.mark.parametrize("rules", [{}, {"workspace": "work"}], ids=["home", "workspace"])
def test_relative_path(rules, told):
    """
    A relative path starts where programs start: in the workspace, and in the home where there is none.
    """
    rules = writable(told.place) if rules else {}
    code = """
box.write_file("by harness", "1")
done = box.run("pwd -P; cat 'by harness'; printf 2 > 'by program'", shell=True, text=True)
seen = [done.stdout, str(done.stderr), box.read_file("by program").decode(), home]
"""
    out, err, read, home = told(code, **rules)

    assert (f"{told.place / 'work' if rules else home}\n1", "", "2") == (out, err, read)


def test_modes_and_parents(told):
    """
    A new file gets its mode, an old one keeps it; what is missing above is ENOENT unless it is to be made.
    """
    code = """
box.write_file("run", "#!/bin/sh\\necho ran", mode=0o755)
box.write_file("plain", "", mode=0o600)
box.write_file("plain", "", mode=0o777)
seen = [
    box.run("./run", shell=True, text=True).stdout,
    {entry.name: [entry.kind, entry.mode, entry.size] for entry in box.list()},
    tried(box.write_file, "a/b/f", ""), tried(box.write_file, "a/b/f", "", parents=True), box.exists("a/b/f"),
    tried(box.make_directory, "c/d"), tried(box.make_directory, "c/d", parents=True),
    tried(box.make_directory, "c/d"), tried(box.make_directory, "c/d", parents=True),
    tried(box.make_directory, "plain", parents=True), tried(box.make_directory, "plain/x", parents=True),
]
"""
    seen = told(code, **writable(told.place))

    assert ["ran\n", {"plain": ["file", 0o600, 0], "run": ["file", 0o755, 18]}] == seen[:2]
    assert [errno.ENOENT, 0, True] == seen[2:5]
    assert [errno.ENOENT, 0, errno.EEXIST, 0] == seen[5:9]
    assert [errno.EEXIST, errno.ENOTDIR] == seen[9:], "a file is taken for a directory"


def test_remove(told):
    """
    A file, a link and an empty directory are removed; a full directory is ENOTEMPTY unless recursively.
    """
    code = """
box.run("mkdir -p full/deep empty kept; touch f kept/f full/deep/f; ln -s kept link; ln -s ../kept full/link", shell=True)
seen = [tried(box.remove, name) for name in ("f", "empty", "link", "full", "absent")]
seen += [tried(box.remove, "full", recursive=True), [entry.name for entry in box.list()], box.exists("kept/f")]
"""
    expected = [0, 0, 0, errno.ENOTEMPTY, errno.ENOENT, 0, ["kept"], True]

    assert expected == told(code, **writable(told.place))


def test_list(told):
    """
    A listing is sorted, and says of each entry what it is without following it; a link that leads nowhere exists.
    """
    code = """
box.run(["sh", "-c", "mkdir d; mkfifo p; printf abc > f; ln -s /etc l"])
box.run([*PYTHON, "import os, stat; os.mknod('s', stat.S_IFSOCK)"])
seen = [[[entry.name, entry.kind] for entry in box.list()]]
seen += [tried(box.list, name) for name in ("f", "p", "absent")]
seen += [tried(box.list, ".", limit=5), tried(box.list, ".", limit=4)]
box.run("ln -s nowhere link", shell=True)
seen += [box.exists(name) for name in ("f", "link", ".", "nowhere", "f/x")]
"""
    kinds = [["d", "directory"], ["f", "file"], ["l", "link"], ["p", "fifo"], ["s", "socket"]]
    denied = [errno.ENOTDIR, errno.ENOTDIR, errno.ENOENT, 0, errno.EFBIG]
    exist = [True, True, True, False, False]

    assert [kinds, *denied, *exist] == told(code)


def test_shown_tree(tier, told):
    """
    What is shown can be read; writing it is EROFS, EACCES where no mount is to be had; beside it can be written.
    """
    code = """
shown = place / "shown"
seen = [box.read_file(shown / "f").decode(), tried(box.write_file, "f", "")]
seen += [tried(box.write_file, shown / "f", ""), tried(box.write_file, shown / "new", ""),
         tried(box.make_directory, shown / "new"), tried(box.remove, shown / "f"),
         tried(box.upload, place / "secret", shown / "new")]
"""
    denied = errno.EROFS if tier == "namespaces" else errno.EACCES
    seen = told(code, read=[told.place / "shown"], **writable(told.place))

    assert ["shown", 0, *[denied] * 5] == seen
    assert ["f", "hidden"] == sorted(os.listdir(told.place / "shown"))


@pytest.mark.parametrize("call", ["read_file", "list", "download", "write_file"])
def test_as_a_program(call, told):
    """
    A path is refused with the errno that a program inside gets, be it hidden, secret, or not there.
    """
    code = """
paths = [place / "shown/f", place / "shown/hidden", place / "secret", "/etc/shadow", "/nowhere", place / "shown/f/x",
         f"/proc/{os.getpid()}/environ", "/proc/self/fd/77", home + "/" + "x" * 300]
call, flags, more = {
    "read_file": (box.read_file, os.O_RDONLY, ()), "list": (box.list, os.O_RDONLY | os.O_DIRECTORY, ()),
    "download": (box.download, os.O_RDONLY | os.O_NOFOLLOW, [place / "target"]),
    "write_file": (box.write_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, ["x"]),
}[CALL]
seen = [[tried(call, path, *more), opened_inside(path, flags), str(path)] for path in paths]
"""
    rules = {"read": [told.place / "shown"], "deny": [told.place / "shown/hidden"]}
    seen = told(f"CALL = {call!r}\n{code}", **rules)

    assert {inside: path for _, inside, path in seen}.keys() > {errno.ENAMETOOLONG}
    assert [] == [[ours, inside, path] for ours, inside, path in seen if ours != inside]


def test_limits(told):
    """
    A file of just the limit is read and copied, one byte more is EFBIG; so it is with the policy's file_size.
    """
    code = """
box.write_file("f", b"x" * 1000)
(place / "big").write_bytes(b"x" * 1001)
target = place / "target"
seen = [
    tried(box.read_file, "f", limit=1000), tried(box.read_file, "f", limit=999), tried(box.read_file, "f", limit=0),
    tried(box.write_file, "f", b"x" * 1001), tried(box.upload, place / "big", "g"),
    tried(box.download, "f", target, limit=1000), tried(box.download, "f", target, limit=999),
]
box.run("mkdir d; head -c 600 /dev/zero > d/one; head -c 600 /dev/zero > d/two", shell=True)
seen += [tried(box.download, "d", place / "all", limit=1200), tried(box.download, "d", place / "all", limit=1199)]
"""
    expected = [0, errno.EFBIG, errno.EFBIG, errno.EFBIG, errno.EFBIG, 0, errno.EFBIG, 0, errno.EFBIG]

    assert expected == told(code, file_size=1000, waive=["disk"])


def test_tree(told):
    """
    A tree is uploaded and downloaded as it is: contents, modes and empty directories.
    """
    code = """
source = place / "source"
(source / "a/b").mkdir(parents=True); (source / "empty").mkdir(); (source / "a/b/f").write_bytes(bytes(3 << 20))
(source / "run").write_text("#!/bin/sh"); (source / "run").chmod(0o750)
box.upload(source, "tree"); box.upload(source / "run", "one"); box.upload(source, "tree")
box.download("tree", place / "target"); box.download("tree/a/b/f", place / "f"); box.download("tree", place / "target")
def all_of(top): return sorted([str(p.relative_to(top)), p.stat().st_mode & 0o777, p.is_dir() or p.stat().st_size]
                               for p in top.rglob("*"))
seen = [all_of(source), all_of(place / "target"), (place / "f").stat().st_size, box.read_file("one").decode()]
"""
    source, target, size, one = told(code)

    assert (source, 3 << 20, "#!/bin/sh") == (target, size, one)
    assert 5 == len(source)
