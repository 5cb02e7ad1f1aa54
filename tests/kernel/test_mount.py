"""
What a sandbox shows of the host's tree, and what may be done with it. mount_namespaces(7)
"""

import errno

import pytest

import jail

pytestmark = pytest.mark.needs("userns")

# Each changes something below the tree in argv[1].
CHANGES = {
    "open": "open(f'{sys.argv[1]}/f', 'r+').close()",
    "truncate": "os.truncate(f'{sys.argv[1]}/f', 0)",
    "create": "open(f'{sys.argv[1]}/new', 'w').close()",
    "mkdir": "os.mkdir(f'{sys.argv[1]}/new')",
    "mkfifo": "os.mkfifo(f'{sys.argv[1]}/new')",
    "symlink": "os.symlink('f', f'{sys.argv[1]}/new')",
    "link": "os.link(f'{sys.argv[1]}/f', f'{sys.argv[1]}/new')",
    "rename": "os.rename(f'{sys.argv[1]}/f', f'{sys.argv[1]}/d/moved')",
    "unlink": "os.unlink(f'{sys.argv[1]}/f')",
    "chmod": "os.chmod(f'{sys.argv[1]}/f', 0o600)",
    "chown": "os.chown(f'{sys.argv[1]}/f', os.getuid(), os.getgid())",
    "utime": "os.utime(f'{sys.argv[1]}/f')",
    "setxattr": "os.setxattr(f'{sys.argv[1]}/f', 'user.x', b'1')",
}

MOUNTS = """
import json
lines = [line.split() for line in open("/proc/self/mountinfo")]
print(json.dumps([[line[4], line[5].split(","), line[line.index("-") + 1]] for line in lines]))
"""

SUBMOUNT = """
import json, jail, sys
key, tree = sys.argv[1:]
mount(b"tmpfs", tree + "/d", b"tmpfs")
open(tree + "/d/below", "w").close()
code = '''
import os, sys
assert os.listdir(sys.argv[1] + "/d") == ["below"]
try: open(sys.argv[1] + "/d/below", "w").close()
except OSError as exc: sys.exit(exc.errno)
'''
result = jail.run([sys.executable, "-I", "-S", "-c", code, tree], **{key: [tree]})
print(json.dumps([result.exit_code, result.stderr.text]))
"""


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    ("key", "expected"),
    [
        pytest.param("write", 0, id="allow_in_write"),  # the control
        pytest.param("read", errno.EROFS, id="deny_in_read"),
    ],
)
def test_change(change, key, expected, tree, attempt):
    """
    Every way to change a tree works in a write tree and is EROFS in a read tree.
    """
    assert expected == attempt(CHANGES[change], tree, **{key: [tree]})


@pytest.mark.parametrize(
    ("access", "expected"),
    [pytest.param("write", 0, id="allow_write"), pytest.param("read", errno.EROFS, id="deny_read")],
)
def test_workspace(access, expected, tree, attempt):
    """
    A workspace is the working directory, and as writable as its policy says.
    """
    code = "assert os.getcwd() == sys.argv[1]; open('new', 'w').close()"

    assert expected == attempt(code, tree, workspace=tree, workspace_access=access)
    assert (expected == 0) == (tree / "new").exists()


def test_absent(tree, attempt):
    """
    What no rule names does not exist inside.
    """
    code = "open(f'{sys.argv[1]}/f').close()"

    assert 0 == attempt(code, tree, read=[tree])
    assert errno.ENOENT == attempt(code, tree)
    assert errno.ENOENT == attempt(code, tree, read=[tree / "d"])


@pytest.mark.parametrize(
    ("key", "expected"),
    [pytest.param("write", 0, id="allow_in_write"), pytest.param("read", errno.EROFS, id="deny_in_read")],
)
def test_submount(key, expected, tree, ask_harness, own_mounts):
    """
    A file system mounted inside of a tree is shown with it, and is as read-only as the tree.
    """
    assert [expected, ""] == ask_harness(own_mounts + SUBMOUNT, key, tree)


@pytest.mark.needs("proc")
def test_attributes(tree, inside):
    """
    Every mount is nosuid; every one but devices is nodev; proc, devices and what hides are noexec.
    """
    mounts = inside(MOUNTS, read=[tree], write=[tree / "d"], deny=[tree / "f"])
    lacking = {
        name: {path for path, attributes, _ in mounts if name not in attributes}
        for name in ("nosuid", "nodev")
    }
    devices = {path for path, _, _ in mounts if path.startswith("/dev/") and path != "/dev/shm"}
    inert = {path for path, attributes, _ in mounts if "noexec" in attributes}

    assert set() == lacking["nosuid"]
    assert devices == lacking["nodev"]
    assert set() == {*devices, "/proc", str(tree / "f")} - inert


@pytest.mark.needs("proc")
def test_only_the_rules_are_mounted(tree, inside):
    """
    No mount of the host is left in the sandbox but those that its plan binds.
    """
    with jail.Sandbox(read=[tree]) as box:
        bound = {op.path for op in box.plan.setup if op.kind.name == "BIND"}
        mounts = inside(MOUNTS, box=box)
    foreign = {path for path, _, kind in mounts if kind not in ("tmpfs", "proc", "devpts")}
    along = {path for path in foreign for tree in bound if path.startswith(f"{tree}/")}  # shown with its tree

    assert str(tree) in bound
    assert set() == foreign - bound - along
    assert 1 == len([path for path, _, _ in mounts if path == "/"])


def test_host_is_unchanged(tree, eyes, attempt):
    """
    Rules of every kind leave nothing in the host's tree, not even a place to mount on.
    """
    before = eyes.snapshot(tree)
    optional = jail.PolicyPath(str(tree / "missing"), optional=True)
    rules = {"read": [tree, optional], "write": [tree / "d"], "deny": [tree / "f", tree / "missing/too"]}

    assert errno.EACCES == attempt("open(sys.argv[1])", tree / "f", **rules)
    assert before == eyes.snapshot(tree)


@pytest.mark.parametrize("key", ["read", "write", "workspace"])
def test_refuse_missing(key, tree):
    """
    A path that does not exist is a PolicyError that names it.
    """
    missing = str(tree / "missing")
    with pytest.raises(jail.PolicyError) as caught:
        jail.run(["true"], **{key: missing if key == "workspace" else [missing]})

    assert key == caught.value.key
    assert missing in str(caught.value)


def test_allow_missing_optional(tree, attempt):
    """
    A path that does not exist and is optional is passed over, and shown when it does.
    """
    rule = jail.PolicyPath(str(tree / "late"), optional=True)

    assert errno.ENOENT == attempt("os.stat(sys.argv[1])", tree / "late", read=[rule])
    (tree / "late").touch()
    assert 0 == attempt("os.stat(sys.argv[1])", tree / "late", read=[rule])


def test_single_file(tree, attempt):
    """
    A rule for a file shows that file and nothing beside it; a writable one is changed in place, not replaced.
    """
    write, remove = "open(sys.argv[1], 'w').write('new')", "os.unlink(sys.argv[1])"

    assert errno.EROFS == attempt(write, tree / "f", read=[tree / "f"])
    assert errno.ENOENT == attempt("os.stat(sys.argv[1])", tree / "d", read=[tree / "f"])
    assert 0 == attempt(write, tree / "f", write=[tree / "f"])
    assert "new" == (tree / "f").read_text()
    assert errno.EROFS == attempt(remove, tree / "f", read=[tree], write=[tree / "f"])


@pytest.mark.skipif("os.geteuid()", reason="mknod(2) of a device asks for root")
def test_device_in_a_tree(tree, attempt):
    """
    A device node in a tree of the host is a name and nothing more: opening it is EACCES.
    """
    import os  # the condition above has it from pytest

    os.mknod(tree / "null", 0o20666, os.makedev(1, 3))

    assert 0 == attempt("os.stat(sys.argv[1])", tree / "null", write=[tree])
    assert errno.EACCES == attempt("open(sys.argv[1])", tree / "null", write=[tree])
