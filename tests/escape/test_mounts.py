"""
What a hostile program can do to the tree that it sees: mount, uncover, climb out, fill it up.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import jail
from escape.verdicts import Unpromised

# CLONE_NEWUSER and CLONE_NEWNS of linux/sched.h: in namespaces of its own anybody may call these.
OWN = 0x10000000 | 0x00020000
NOBODY_BOUNDS = "there is no tmpfs of the sandbox's own; the tier is refused until the caller waives `disk`"

# What each does where it may be done, in namespaces of one's own: an errno that is not EPERM, or "done".
CALLS = {
    "mount_new": ("call('mount', b'none', b'/tmp', b'tmpfs', 0, None)", "done"),
    "mount_bind": ("call('mount', b'/usr/lib', b'/tmp', None, 0x1000, None)", "done"),
    "remount_writable": ("call('mount', None, b'/', None, 0x20 | 0x1000, None)", "done"),
    "umount": ("call('umount2', b'/proc', 0x100)", "EINVAL"),
    "umount_lazily": ("call('umount2', b'/', 2)", "EINVAL"),
    "pivot_root": ("syscall(155 if os.uname().machine == 'x86_64' else 41, 1, 1)", "EFAULT"),
    "chroot": ("os.chroot('/tmp')", "done"),
    "open_tree": ("syscall(428, -100, at(b'/usr/lib'), 1)", "done"),
    "move_mount": ("syscall(429, -1, 1, -1, 1, 0)", "EFAULT"),
    "fsopen": ("syscall(430, at(b'tmpfs'), 0)", "done"),
    "fsconfig": ("syscall(431, -1, 0, 0, 0, 0)", "EINVAL"),
    "fsmount": ("syscall(432, -1, 0, 0)", "EBADF"),
    "fspick": ("syscall(433, -100, at(b'/'), 0)", "done"),
    "mount_setattr": ("syscall(442, -100, at(b'/'), 0, 0, 0)", "EINVAL"),
    "statmount": ("syscall(457, 0, 0, 0, 0)", "EFAULT"),
    "listmount": ("syscall(458, 0, 0, 0, 0)", "EFAULT"),
    "open_tree_attr": ("syscall(467, -100, at(b'/'), 1, 0, 0)", "EINVAL"),
    "name_to_handle_at": (
        "call('name_to_handle_at', -100, b'/dev', ctypes.create_string_buffer(8), ctypes.byref(ctypes.c_int()), 0)",
        "EOVERFLOW",
    ),
    "open_by_handle_at": (
        "call('open_by_handle_at', -100, ctypes.create_string_buffer(bytes(200)), 0)",
        "EINVAL",
    ),
    "fanotify_init": ("call('fanotify_init', 0xFFFFFFFF, 0)", "EPERM"),
    "quotactl": ("call('quotactl', -1, None, 0, None)", "EINVAL"),
}


@pytest.mark.parametrize("name", CALLS)
def test_mount_calls(name, tier, outside):
    """
    No call that changes the tree, looks behind it or opens a file by number is carried out.
    """
    act, verdict = CALLS[name]

    assert "EPERM" == tier.attempt(act)
    if not jail.probe().has("userns"):
        return  # a container refuses it to everybody, in namespaces of one's own too
    control = outside(act, namespace=OWN)
    assert control in (verdict, "ENOSYS" if name in ("statmount", "listmount", "open_tree_attr") else verdict)


@pytest.mark.program("mount", "umount")
@pytest.mark.parametrize(
    "command", ["mount -o remount,rw,bind /usr", "umount /etc/shadow", "umount -l /proc"]
)
def test_programs_that_mount(command, tier):
    """
    The programs that do it have no more luck: nothing is uncovered, and nothing becomes writable.
    """
    before = tier.attempt("print(open('/proc/self/mountinfo').read())")
    act = "import subprocess; sys.exit(subprocess.run(sys.argv[1].split(), stderr=subprocess.DEVNULL).returncode != 0)"

    assert "EPERM" == tier.attempt(act, command)
    assert before == tier.attempt("print(open('/proc/self/mountinfo').read())")
    assert "done" == tier.attempt(act, "true")


ABOVE = """
top = os.open("/", os.O_PATH)
os.chdir("/")
for _ in range(64):
    os.chdir("..")
same = os.stat(".").st_ino == os.fstat(top).st_ino and os.stat("/..").st_dev == os.fstat(top).st_dev
fd = os.open("/usr", os.O_PATH)
for _ in range(8):
    fd = os.open("..", os.O_PATH, dir_fd=fd)
print(same and os.fstat(fd).st_ino == os.fstat(top).st_ino)
"""


def test_nothing_above_the_root(tier):
    """
    However often a program goes up, it is at its own root.
    """
    assert ["True"] == tier.output(ABOVE)


def test_the_root_is_not_the_hosts(tier):
    """
    That root is no part of the host's tree, where there are mounts; and nothing of the host's is mounted but the plan's.
    """
    root = tier.output("print(os.stat('/').st_dev, os.stat('/').st_ino)")
    host = [f"{os.stat('/').st_dev} {os.stat('/').st_ino}"]

    if tier.tier == "Landlock":
        assert host == root  # its promise is what can be opened, not what has a name
        return
    assert host != root
    tree = "answer = [t.path for t in jail.Sandbox().__enter__()._session.view.trees]"
    shown = tier.ask(tree)
    if not tier.hello["proc"]:
        return  # there is no list of them
    for line in filter(None, tier.output("print(open('/proc/self/mountinfo').read())")):
        kind, at = line.split(" - ")[1].split()[0], line.split()[4]
        below = any(at == place or at.startswith(f"{place}/") for place in (*shown, "/dev"))
        assert below or kind in ("tmpfs", "proc", "devpts"), line


def test_every_mount_is_inert(tier, place, workspace):
    """
    No mount honours set-user-ID bits, none but /dev has devices, and what may be written is on the plan's list.
    """
    if tier.tier == "Landlock" or not tier.hello["proc"]:
        assert tier.below_proc("EACCES") == tier.attempt("open('/proc/self/mountinfo')")
        return
    lines = tier.output(
        "print(open('/proc/self/mountinfo').read())", read=[str(place / "outside")], write=[str(workspace)]
    )
    flags = {line.split()[4]: line.split()[5].split(",") for line in lines if line}
    home = tier.output("print(os.environ['HOME'])")[0]
    writable = {path for path, options in flags.items() if "rw" in options}

    assert set() == {path for path, options in flags.items() if "nosuid" not in options}
    assert set() == {
        path for path, options in flags.items() if "nodev" not in options and not path.startswith("/dev/")
    }
    assert {"/tmp", "/var/tmp", "/dev/shm", "/dev/pts", home, str(workspace)} == writable


HOST_WITH_SUBMOUNTS = """
import ctypes, sys
import jail
libc = ctypes.CDLL(None, use_errno=True)
def mount(source, target, kind, flags=0):
    if libc.mount(source, target.encode(), kind, flags, None):
        raise OSError(ctypes.get_errno(), target)
mount(b"none", sys.argv[1] + "/d", b"tmpfs")
open(sys.argv[1] + "/d/f", "w").close()
act = "import os, sys; os.open(sys.argv[1] + '/d/f', os.O_WRONLY)"
for access in ("read", "write"):
    result = jail.run([sys.executable, "-I", "-S", "-c", act, sys.argv[1]], workspace=sys.argv[1], workspace_access=access)
    print(result.exit_code, b"Read-only file system" in result.stderr)
"""


@pytest.mark.needs("userns")
def test_submounts(workspace):
    """
    A read-only tree is read-only in what is mounted in it, too.
    """
    prelude = (
        "import ctypes, os\nuid, gid = os.getuid(), os.getgid()\n"
        f"if ctypes.CDLL(None).unshare({OWN:#x}): raise SystemExit('unshare')\n"
        "for f, t in (('uid_map', f'{uid} {uid} 1'), ('setgroups', 'deny'), ('gid_map', f'{gid} {gid} 1')):\n"
        "    with open(f'/proc/self/{f}', 'w') as file: file.write(t)\n"
    )
    cmd = [sys.executable, "-c", prelude + HOST_WITH_SUBMOUNTS, str(workspace)]
    ended = subprocess.run(cmd, capture_output=True, text=True, check=False)

    assert ("1 True\n0 False\n", "") == (ended.stdout, ended.stderr)


def test_a_hundred_sandboxes_leave_the_hosts_mounts_alone(tier, workspace):
    """
    Starting and ending sandboxes changes nothing in the mount namespace of the harness, nor in this one.
    """
    source = """
def mounts(): return open("/proc/self/mountinfo").read()
before = mounts()
for _ in range(100):
    run(["true"], workspace=place)
answer = before == mounts()
"""
    before = Path("/proc/self/mountinfo").read_text()

    assert True is tier.ask(source, place=str(workspace))
    assert before == Path("/proc/self/mountinfo").read_text()


# ---- as much as fits, and no more -----------------------------------------------------------------

FILLS = {
    "write": "fd = os.open('f', os.O_CREAT | os.O_WRONLY)\nwhile True: os.write(fd, bytes(1 << 20))",
    "allocate": "fd = os.open('f', os.O_CREAT | os.O_WRONLY)\nos.posix_fallocate(fd, 0, 1 << 30)",
    "sparse": "fd = os.open('f', os.O_CREAT | os.O_RDWR)\nos.truncate(fd, 1 << 40)\nfor i in range(1 << 12): os.pwrite(fd, b'x', i << 24)",
    "deleted": "while True:\n fd = os.open('f', os.O_CREAT | os.O_WRONLY); os.unlink('f'); os.write(fd, bytes(1 << 20))",
    "inodes": "for i in range(1 << 20): os.close(os.open(str(i), os.O_CREAT))",
    "directories": "for i in range(1 << 20): os.mkdir(str(i))",
    "links": "open('f', 'w').close()\nfor i in range(1 << 20): os.link('f', str(i))",
    "symlinks": "for i in range(1 << 20): os.symlink('x' * 4000, str(i))",
    "attributes": "for i in range(1 << 20):\n open(str(i), 'w').close()\n for n in range(64): os.setxattr(str(i), f'user.{n}', bytes(1024))",
}


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("where", ["/tmp", "/var/tmp", "/dev/shm", "HOME"])
def test_fill(fill, where, tier):
    """
    What a program writes beside the host's files ends at the policy's size, in bytes and in inodes.
    """
    if tier.tier == "Landlock":
        assert Unpromised("UnsupportedError", NOBODY_BOUNDS).verdict == tier.ask(
            "try: jail.run(['true'], disk='8M'); answer = 'ran'\nexcept jail.JailError as exc: answer = type(exc).__name__"
        )
        return
    act = "os.chdir(os.environ.get(sys.argv[1], sys.argv[1]))\n" + FILLS[fill]

    assert "ENOSPC" == tier.attempt(act, where, disk="8M", open_files=4096)
    assert "done" == tier.attempt("open('/tmp/f', 'wb').write(bytes(1 << 20))", disk="8M")


def test_one_size_for_all_places(tier):
    """
    The places share one size: what is in one is not to be had in another.
    """
    if tier.tier == "Landlock":
        return  # as above
    act = "open('/tmp/f', 'wb').write(bytes(6 << 20)); open('/dev/shm/f', 'wb').write(bytes(int(sys.argv[1]) << 20))"

    assert "ENOSPC" == tier.attempt(act, 6, disk="8M")
    assert "done" == tier.attempt(act, 1, disk="8M")


ACL = """
def slab(): return int(re.search(r"Slab: *(\\d+)", open("/proc/meminfo").read())[1])
import re
entries = [(1, 7, -1 & 0xFFFFFFFF), *[(2, 7, os.getuid())] * 8000, *[(tag, 7, 0xFFFFFFFF) for tag in (4, 16, 32)]]
acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
before, made = slab(), 0
try:
    for made in range(1 << 20):
        os.close(os.open(f"/tmp/{made}", os.O_CREAT)); os.setxattr(f"/tmp/{made}", "system.posix_acl_access", acl)
except OSError: pass
print(slab() - before < 32 << 10)
"""
