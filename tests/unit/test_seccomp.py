"""
Which system calls exist inside: `jail.seccomp` and ``profiles/syscalls.toml``.

Filters are run by the machine of ``bpf.py``, so those of both architectures are judged anywhere.
"""

import ctypes
import errno
import importlib
import runpy
import sys
import tomllib
from importlib.resources import files
from itertools import product

import pytest

from jail.confine import REFUSALS, refusal_op
from jail.errors import PolicyError, UnsupportedError
from jail.seccomp import ARCHES, VARIANTS, compile_filter, load_filter, partition, write_filters
from unit.bpf import (
    ALLOW,
    AUDIT_ARCH,
    ENOSYS,
    EPERM,
    KILL_PROCESS,
    ArgumentReadError,
    BadProgramError,
    judge,
    parse,
    run,
)

try:
    import pyseccomp
except (ImportError, RuntimeError) as exc:
    pyseccomp = None
    WITHOUT = f"needs pyseccomp and libseccomp: {exc}"
else:
    WITHOUT = ""

needs_libseccomp = pytest.mark.skipif(pyseccomp is None, reason=WITHOUT)

PROGRAMS = {(variant, arch): parse(load_filter(variant, arch)) for variant, arch in product(VARIANTS, ARCHES)}
TABLE = tomllib.loads((files("jail.profiles") / "syscalls.toml").read_text())
GROUPS = {name: group for group in TABLE["groups"].values() for name in group["calls"]}
TOKENS = {arch: AUDIT_ARCH[arch] for arch in ARCHES}
COMPILED_WITH = (2, 5, 4)  # the libseccomp that made what is in src/jail/filters

NAMESPACES = {variant for variant in VARIANTS if variant.startswith("namespaces")}


def with_(feature):
    """
    The variants that have a feature: those with namespaces, unless they give it up, and those that take it.
    """
    kept = {variant for variant in NAMESPACES if f"-{feature}" not in variant}
    return kept | {variant for variant in VARIANTS if f"+{feature}" in variant}


NETWORK = with_("network")
METADATA = with_("metadata")
CLONE3 = {variant for variant in VARIANTS if variant.endswith("+clone3")}
EVERYWHERE = set(VARIANTS)
NOWHERE = set()

# From asm/unistd_64.h of x86_64 and asm-generic/unistd.h: what the filters hold was worked out by
# libseccomp, so the tests have numbers of their own. None: not on this architecture.
NUMBERS = {  # aarch64, x86_64
    "read": (63, 0),
    "open": (None, 2),
    "openat": (56, 257),
    "creat": (None, 85),
    "mknodat": (33, 259),
    "fchmod": (52, 91),
    "fork": (None, 57),
    "ioctl": (29, 16),
    "socket": (198, 41),
    "socketpair": (199, 53),
    "clone": (220, 56),
    "execve": (221, 59),
    "chmod": (None, 90),
    "fchmodat": (53, 268),
    "fchmodat2": (452, 452),
    "chown": (None, 92),
    "utimensat": (88, 280),
    "setxattr": (5, 188),
    "personality": (92, 135),
    "prctl": (167, 157),
    "seccomp": (277, 317),
    "ptrace": (117, 101),
    "prlimit64": (261, 302),
    "setrlimit": (164, 160),
    "sched_setaffinity": (122, 203),
    "sched_getaffinity": (123, 204),
    "sched_setscheduler": (119, 144),
    "setpriority": (140, 141),
    "ioprio_set": (30, 251),
    "inotify_add_watch": (27, 254),
    "shmget": (194, 29),
    "mq_open": (180, 240),
    "msgget": (186, 68),
    "semget": (190, 64),
    "kill": (129, 62),
    "mount": (40, 165),
    "umount2": (39, 166),
    "unshare": (97, 272),
    "setns": (268, 308),
    "bpf": (280, 321),
    "keyctl": (219, 250),
    "clone3": (435, 435),
    "io_uring_setup": (425, 425),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "openat2": (437, 437),
    "pidfd_getfd": (438, 438),
    "landlock_create_ruleset": (444, 444),
    "cachestat": (451, 451),
    "statmount": (457, 457),
    "mseal": (462, 462),
    "file_setattr": (469, 469),
    "uretprobe": (None, 335),
    "vserver": (None, 236),
    "get_mempolicy": (236, 239),
    "splice": (76, 275),
    "vmsplice": (75, 278),
}

UNIX, INET, INET6, NETLINK, PACKET, ALG, VSOCK = 1, 2, 10, 16, 17, 38, 40
STREAM, DGRAM, RAW, SEQPACKET, DCCP, SOCK_PACKET = 1, 2, 3, 5, 6, 10
CLOEXEC, NONBLOCK = 0o2000000, 0o4000
THREAD = 0x3D0F00  # the flags that glibc starts a thread with: strace -e clone

# Each denial stands beside the same call, allowed.
CASES = [
    # call, arguments, the variants in which it is carried out; EPERM in the others
    ("read", (), EVERYWHERE),
    ("execve", (), EVERYWHERE),
    ("fork", (), EVERYWHERE),
    ("kill", (), EVERYWHERE),
    ("prctl", (), EVERYWHERE),
    ("openat", (0, 0, 0o101, 0o666), EVERYWHERE),
    ("openat", (0, 0, 0o0, 0xFFFF), EVERYWHERE),  # no O_CREAT: the mode is whatever was in the register
    ("openat", (0, 0, 0o101, 0o4755), NOWHERE),
    ("openat", (0, 0, 0o20200002, 0o2755), NOWHERE),  # O_TMPFILE
    ("open", (0, 0o100, 0o644), EVERYWHERE),
    ("open", (0, 0o100, 0o6755), NOWHERE),
    ("creat", (0, 0o755), EVERYWHERE),
    ("creat", (0, 0o4755), NOWHERE),
    ("mknodat", (0, 0, 0o100644), EVERYWHERE),
    ("mknodat", (0, 0, 0o104755), NOWHERE),
    ("landlock_create_ruleset", (), EVERYWHERE),
    ("cachestat", (), EVERYWHERE),
    ("mseal", (), EVERYWHERE),
    ("uretprobe", (), EVERYWHERE),
    ("ptrace", (), NOWHERE),
    ("pidfd_getfd", (), NOWHERE),
    ("mount", (), NOWHERE),
    ("umount2", (), NOWHERE),
    ("open_tree", (), NOWHERE),
    ("fsopen", (), NOWHERE),
    ("statmount", (), NOWHERE),
    ("unshare", (), NOWHERE),
    ("setns", (), NOWHERE),
    ("bpf", (), NOWHERE),
    ("keyctl", (), NOWHERE),
    ("io_uring_setup", (), NOWHERE),
    ("get_mempolicy", (), NOWHERE),
    ("vmsplice", (), NOWHERE),
    ("splice", (), EVERYWHERE),
    ("chmod", (0, 0o1777), METADATA),
    ("chmod", (0, 0o4755), NOWHERE),
    ("fchmod", (0, 0o755), METADATA),
    ("fchmod", (0, 0o2755), NOWHERE),
    ("fchmodat", (0, 0, 0o755), METADATA),
    ("fchmodat", (0, 0, 0o6755), NOWHERE),
    ("fchmodat2", (0, 0, 0o755), METADATA),
    ("fchmodat2", (0, 0, 0o1 << 32 | 0o4755), NOWHERE),
    ("chown", (), METADATA),
    ("utimensat", (), METADATA),
    ("setxattr", (), METADATA),
    ("file_setattr", (), METADATA),
    ("inotify_add_watch", (), NAMESPACES),
    ("shmget", (), NAMESPACES),
    ("mq_open", (), NAMESPACES),
    ("msgget", (), NAMESPACES),
    ("semget", (), NAMESPACES),
    ("clone", (17,), EVERYWHERE),  # SIGCHLD
    ("clone", (THREAD,), EVERYWHERE),
    ("clone", (0x1000,), EVERYWHERE),  # CLONE_PIDFD
    ("clone", (0x80,), EVERYWHERE),  # CLONE_NEWTIME for clone3; for clone a part of the signal
    ("clone", (0x20000,), NOWHERE),  # CLONE_NEWNS
    ("clone", (0x2000000,), NOWHERE),  # CLONE_NEWCGROUP
    ("clone", (0x4000000,), NOWHERE),  # CLONE_NEWUTS
    ("clone", (0x8000000,), NOWHERE),  # CLONE_NEWIPC
    ("clone", (0x10000000,), NOWHERE),  # CLONE_NEWUSER
    ("clone", (0x20000000,), NOWHERE),  # CLONE_NEWPID
    ("clone", (0x40000000,), NOWHERE),  # CLONE_NEWNET
    ("clone", (0x10000000 | THREAD,), NOWHERE),
    ("clone", (0x7E020000 | 17,), NOWHERE),
    ("socket", (UNIX, STREAM, 0), NAMESPACES),
    ("socket", (UNIX, DGRAM | CLOEXEC, 0), NAMESPACES),
    ("socket", (UNIX, SEQPACKET, 0), NAMESPACES),
    ("socket", (INET, STREAM, 0), NETWORK),
    ("socket", (INET, STREAM | CLOEXEC | NONBLOCK, 6), NETWORK),
    ("socket", (INET, DGRAM, 17), NETWORK),
    ("socket", (INET, SEQPACKET, 0), NOWHERE),
    ("socket", (INET, STREAM, 132), NOWHERE),  # SCTP
    ("socket", (INET6, DGRAM, 115), NOWHERE),  # L2TP
    ("socket", (INET, DGRAM, 1), NOWHERE),  # ICMP, ping without privilege
    ("socket", (INET6, STREAM | CLOEXEC, 0), NETWORK),
    ("socket", (INET6, DGRAM, 0), NETWORK),
    ("socket", (INET, RAW, 1), NOWHERE),
    ("socket", (INET, RAW | CLOEXEC, 1), NOWHERE),
    ("socket", (INET6, RAW, 58), NOWHERE),
    ("socket", (INET, SOCK_PACKET, 3), NOWHERE),
    ("socket", (INET, DCCP, 33), NOWHERE),
    ("socket", (NETLINK, RAW, 0), NETWORK),
    ("socket", (NETLINK, RAW | CLOEXEC, 0), NETWORK),
    ("socket", (NETLINK, RAW, 9), NOWHERE),  # NETLINK_AUDIT
    ("socket", (NETLINK, DGRAM, 12), NOWHERE),  # NETLINK_NETFILTER
    ("socket", (NETLINK, RAW, 0x80000000), NOWHERE),
    ("socket", (PACKET, RAW, 0), NOWHERE),
    ("socket", (ALG, SEQPACKET, 0), NOWHERE),
    ("socket", (VSOCK, STREAM, 0), NOWHERE),
    ("socket", (0, STREAM, 0), NOWHERE),
    ("socket", (0xFFFFFFFF, STREAM, 0), NOWHERE),
    ("socketpair", (UNIX, STREAM, 0), EVERYWHERE),
    ("socketpair", (UNIX, STREAM | CLOEXEC | NONBLOCK, 0), EVERYWHERE),
    ("socketpair", (UNIX, SEQPACKET, 0), EVERYWHERE),
    ("socketpair", (UNIX, DGRAM, 0), NAMESPACES),
    ("socketpair", (UNIX, DGRAM | CLOEXEC, 0), NAMESPACES),
    ("socketpair", (UNIX, RAW, 0), NAMESPACES),  # unix(7) takes it for SOCK_DGRAM
    ("socketpair", (INET, STREAM, 0), NOWHERE),
    ("socketpair", (30, STREAM, 0), NOWHERE),  # AF_TIPC
    ("ioctl", (0, 0x5401), EVERYWHERE),  # TCGETS
    ("ioctl", (0, 0x5413), EVERYWHERE),  # TIOCGWINSZ
    ("ioctl", (0, 0x541B), EVERYWHERE),  # FIONREAD
    ("ioctl", (0, 0x80045430), EVERYWHERE),  # TIOCGPTN
    ("ioctl", (0, 0x40049409), EVERYWHERE),  # FICLONE
    ("ioctl", (0, 0x80086601), EVERYWHERE),  # FS_IOC_GETFLAGS
    ("ioctl", (0, 0x5412), NOWHERE),  # TIOCSTI
    ("ioctl", (0, 0x541C), NOWHERE),  # TIOCLINUX
    ("ioctl", (0, 0x40086602), METADATA),  # FS_IOC_SETFLAGS
    ("ioctl", (0, 0x401C5820), METADATA),  # FS_IOC_FSSETXATTR
    ("ioctl", (0, 0x40806685), METADATA),  # FS_IOC_ENABLE_VERITY
    ("ioctl", (0, 0x5000940E), NAMESPACES),  # BTRFS_IOC_SUBVOL_CREATE
    ("ioctl", (0, 0x5000940F), NAMESPACES),  # BTRFS_IOC_SNAP_DESTROY
    ("personality", (0,), EVERYWHERE),
    ("personality", (0x8,), EVERYWHERE),  # PER_LINUX32
    ("personality", (0x20000,), EVERYWHERE),  # UNAME26
    ("personality", (0x20008,), EVERYWHERE),
    ("personality", (0x40000,), EVERYWHERE),  # ADDR_NO_RANDOMIZE
    ("personality", (0xFFFFFFFF,), EVERYWHERE),  # a question
    ("personality", (0x400000,), NOWHERE),  # READ_IMPLIES_EXEC
    ("personality", (0x440000,), NOWHERE),
    ("personality", (0x100000,), NOWHERE),  # MMAP_PAGE_ZERO
    ("personality", (0x4,), NOWHERE),  # PER_BSD
    ("seccomp", (1, 0), EVERYWHERE),  # SECCOMP_SET_MODE_FILTER
    ("seccomp", (1, 1), EVERYWHERE),  # SECCOMP_FILTER_FLAG_TSYNC
    ("seccomp", (1, 4), EVERYWHERE),  # SECCOMP_FILTER_FLAG_SPEC_ALLOW
    ("seccomp", (2, 0), EVERYWHERE),  # SECCOMP_GET_ACTION_AVAIL
    ("seccomp", (1, 8), NOWHERE),  # SECCOMP_FILTER_FLAG_NEW_LISTENER
    ("seccomp", (1, 9), NOWHERE),
    ("setrlimit", (), EVERYWHERE),
    ("prlimit64", (0, 7), EVERYWHERE),
    ("prlimit64", (1234, 7), NAMESPACES),
    ("sched_getaffinity", (1234,), EVERYWHERE),
    ("sched_setaffinity", (0,), EVERYWHERE),
    ("sched_setaffinity", (1234,), NAMESPACES),
    ("sched_setscheduler", (0,), EVERYWHERE),
    ("sched_setscheduler", (1,), NAMESPACES),
    ("setpriority", (0, 0, 10), EVERYWHERE),  # PRIO_PROCESS, itself
    ("setpriority", (0, 1234, 10), NAMESPACES),
    ("setpriority", (1, 0, 10), NAMESPACES),  # PRIO_PGRP
    ("setpriority", (2, 0, 10), NAMESPACES),  # PRIO_USER: all of the caller's
    ("ioprio_set", (1, 0, 0), EVERYWHERE),  # IOPRIO_WHO_PROCESS, itself
    ("ioprio_set", (1, 1234, 0), NAMESPACES),
    ("ioprio_set", (3, 0, 0), NAMESPACES),  # IOPRIO_WHO_USER
]


def number_of(call, arch):
    """
    The number, or None where this architecture has no such call.
    """
    return NUMBERS[call][ARCHES.index(arch)]


def verdict(variant, arch, call, args=()):
    """
    What the built-in filter says.
    """
    return judge(PROGRAMS[variant, arch], arch, number_of(call, arch), args)


def on_both(function):
    """
    Run a test for each variant on each architecture.
    """
    return pytest.mark.parametrize("arch", ARCHES)(pytest.mark.parametrize("variant", VARIANTS)(function))


@on_both
def test_the_kernel_takes_the_filter(variant, arch):
    """
    A built-in filter is one that the kernel would load, and small: libseccomp has one instruction for a call.
    """
    assert len(PROGRAMS[variant, arch]) < 1100


@on_both
def test_few_steps(variant, arch):
    """
    A call without a rule is found in a tree, not in a list: the kernel runs the filter for each at loading.
    """
    program = PROGRAMS[variant, arch]
    steps = [run(program, arch, number)[1] for number in range(600) if not reads(program, arch, number)]

    assert max(steps) < 50


@on_both
@pytest.mark.parametrize(("call", "args", "where"), CASES)
def test_verdict(variant, arch, call, args, where):
    """
    Each call is carried out in the variants that contain it, and is EPERM in the others.
    """
    if number_of(call, arch) is None:
        assert arch == "aarch64"
        return

    assert (ALLOW if variant in where else EPERM) == verdict(variant, arch, call, args)


@on_both
@pytest.mark.parametrize("call", ["clone3", "openat2", "vserver"])
def test_absent(variant, arch, call):
    """
    What is left out is ENOSYS, as on a kernel that never had it; but for clone3, where jail-init needs it itself.
    """
    if number_of(call, arch) is not None:
        expected = ALLOW if call == "clone3" and variant in CLONE3 else ENOSYS
        assert expected == verdict(variant, arch, call)


def test_clone3_is_in_one_variant():
    """
    Only where programs have cgroups: there they are refused it by a filter of their own.
    """
    assert {"namespaces+clone3"} == CLONE3
    differing = {
        call
        for call in NUMBERS
        for arch in ARCHES
        if number_of(call, arch) is not None
        and judge(PROGRAMS["namespaces", arch], arch, number_of(call, arch))
        != judge(PROGRAMS["namespaces+clone3", arch], arch, number_of(call, arch))
    }
    assert {"clone3"} == differing


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize(
    "calls", [{"clone3"}, {"sched_setaffinity"}, {"clone3", "sched_setaffinity"}], ids="+".join
)
def test_refusal(calls, arch):
    """
    The filter beside the built-in one takes the calls that it names, and lets all others through.
    """
    program = parse(refusal_op(arch, {name: REFUSALS[name] for name in calls}).data)
    expected = {"clone3": ENOSYS, "sched_setaffinity": EPERM}
    numbers = {number_of(call, arch): expected[call] for call in calls}

    for number in (*range(600), -1, 0x3FFFFFFF):
        assert numbers.get(number, ALLOW) == judge(program, arch, number, args=None)


def test_refusal_of_what_it_does_not_know():
    """
    A call whose number is not known is an error, and no filter that lets it through.
    """
    with pytest.raises(KeyError):
        refusal_op("x86_64", {"clone2": errno.ENOSYS})
    with pytest.raises(KeyError):
        refusal_op("riscv64", {"clone3": errno.ENOSYS})


@on_both
@pytest.mark.parametrize("number", [471, 500, 4095, 4096, 0x3FFFFFFF, -1])
def test_unknown_number(variant, arch, number):
    """
    A number beyond the table's is ENOSYS, and so is -1, which a tracer leaves where it took a call away.
    """
    assert ENOSYS == judge(PROGRAMS[variant, arch], arch, number)


@on_both
def test_gaps(variant, arch):
    """
    Numbers between known ones that belong to nothing are ENOSYS.
    """
    gaps = {"x86_64": [337, 338, 400, 423], "aarch64": [244, 259, 295, 423]}[arch]

    assert {ENOSYS} == {judge(PROGRAMS[variant, arch], arch, number) for number in gaps}


@on_both
@pytest.mark.parametrize("call", ["read", "ptrace", "clone3", "socket"])
def test_x32(variant, arch, call):
    """
    A call of the x32 ABI kills on x86_64, whatever its number without the bit; elsewhere there is no such ABI.
    """
    expected = KILL_PROCESS if arch == "x86_64" else ENOSYS

    assert expected == judge(PROGRAMS[variant, arch], arch, 0x40000000 | number_of(call, arch))


@on_both
@pytest.mark.parametrize("foreign", ["i386", "arm", "aarch64", "x86_64", 0xC00000F3])
def test_foreign_architecture(variant, arch, foreign):
    """
    A call of another architecture kills, be its number known or not; the filter's own does not.
    """
    found = {judge(PROGRAMS[variant, arch], foreign, number) for number in (0, 63, 11, 435, 5000)}

    assert (KILL_PROCESS in found) is (foreign != arch)
    assert foreign == arch or {KILL_PROCESS} == found


@on_both
@pytest.mark.parametrize("above", [0, 1, 0x5412, 0x80000000, 0xFFFFFFFF])
@pytest.mark.parametrize(("command", "expected"), [(0x5412, EPERM), (0x541C, EPERM), (0x5401, ALLOW)])
def test_ioctl_in_64_bits(variant, arch, above, command, expected):
    """
    TIOCSTI is TIOCSTI with any bits above its 32: the kernel looks at those alone.
    """
    assert expected == verdict(variant, arch, "ioctl", (0, above << 32 | command))


@on_both
def test_kernel_remembers_what_is_always_allowed(variant, arch):
    """
    For all but the calls with a rule the verdict needs the number only, so that the kernel can remember it.
    """
    asking = {number for number in range(600) if reads(PROGRAMS[variant, arch], arch, number)}
    by_rule = {number_of(call, arch) for call in TABLE["rules"] if call in NUMBERS} - {None}

    assert len(asking) <= len(TABLE["rules"])
    assert by_rule - asking == settled_rules(variant, arch)


def settled_rules(variant, arch):
    """
    The calls with a rule that in this variant gives one verdict whatever the arguments.
    """
    pids = {"prlimit64", "sched_setaffinity", "sched_setscheduler", "setpriority", "ioprio_set"}
    settled = set(pids) if variant in NAMESPACES else set()
    if variant not in NETWORK | NAMESPACES:
        settled.add("socket")
    if variant not in METADATA:
        settled |= {"chmod", "fchmod", "fchmodat", "fchmodat2"}
    return {number_of(call, arch) for call in settled} - {None}


def test_load_filter_refuses():
    """
    No filter is given for another architecture, nor for a variant that does not exist.
    """
    with pytest.raises(UnsupportedError) as caught:
        load_filter("namespaces", "riscv64")
    with pytest.raises(
        ValueError, match=r"no filter 'name'; there are namespaces, namespaces\+clone3, names"
    ):
        load_filter("name", "x86_64")

    assert "syscalls: needs aarch64 or x86_64; found riscv64." == str(caught.value)


@needs_libseccomp
@on_both
def test_filters_are_fresh(variant, arch):
    """
    What comes with the library is what the table says now: make filters.

    Another libseccomp may say the same with other instructions: then the verdicts are compared.
    """
    fresh = compile_filter(variant, arch)
    same = load_filter(variant, arch) == fresh

    assert same or libseccomp_version() != COMPILED_WITH
    assert verdicts(PROGRAMS[variant, arch], arch) == verdicts(parse(fresh), arch)


def libseccomp_version():
    """
    What seccomp_version(3) says, which pyseccomp does not wrap.
    """
    library = pyseccomp._libseccomp
    library.seccomp_version.restype = ctypes.POINTER(ctypes.c_uint * 3)
    return tuple(library.seccomp_version().contents)


def verdicts(program, arch):
    """
    The verdict on each number that needs no arguments, and on each of the cases.
    """
    settled = {
        number: judge(program, arch, number) for number in range(600) if not reads(program, arch, number)
    }
    cases = {(call, args): number_of(call, arch) for call, args, _ in CASES}
    return settled | {
        case: judge(program, arch, number, case[1]) for case, number in cases.items() if number is not None
    }


def reads(program, arch, number):
    """
    Whether the verdict hangs on more than the number, which keeps the kernel from remembering it.
    """
    try:
        judge(program, arch, number, None)
    except ArgumentReadError:
        return True
    return False


@needs_libseccomp
@pytest.mark.parametrize("arch", ARCHES)
def test_write_filters(arch, tmp_path):
    """
    All filters are written anew, and nothing else.
    """
    said = list(write_filters(tmp_path))
    names = {f"{variant}.{each}.bpf" for variant, each in product(VARIANTS, ARCHES)}

    assert names == {path.name for path in tmp_path.iterdir()}
    assert len(VARIANTS) * len(ARCHES) == len(said)
    assert f"{tmp_path}/namespaces.{arch}.bpf: {len(PROGRAMS['namespaces', arch])} instructions\n" in said


@needs_libseccomp
@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning:runpy")
def test_module_writes_filters(tmp_path, monkeypatch, capsys):
    """
    ``python -m jail.seccomp DIRECTORY`` writes them there, and says so.
    """
    monkeypatch.setattr(sys, "argv", ["jail.seccomp", str(tmp_path)])
    runpy.run_module("jail.seccomp", run_name="__main__")

    assert load_filter("namespaces", "x86_64")[:56] == (tmp_path / "namespaces.x86_64.bpf").read_bytes()[:56]
    assert len(VARIANTS) * len(ARCHES) == len(capsys.readouterr().out.splitlines())


@needs_libseccomp
@pytest.mark.parametrize("arch", ARCHES)
def test_policy_allows(arch):
    """
    What a policy allows is carried out with any arguments, and nothing else changes.
    """
    program = parse(compile_filter("no-namespaces", arch, allow=["ptrace", "socket", "clone3"]))

    for call, args in [("ptrace", ()), ("socket", (PACKET, RAW, 0)), ("clone3", ())]:
        assert ALLOW == judge(program, arch, number_of(call, arch), args)
        assert ALLOW != verdict("no-namespaces", arch, call, args)
    assert EPERM == judge(program, arch, number_of("bpf", arch))


@needs_libseccomp
@pytest.mark.parametrize("arch", ARCHES)
def test_policy_denies(arch):
    """
    What a policy denies is EPERM with any arguments, and nothing else changes.
    """
    program = parse(compile_filter("namespaces", arch, deny=["socket", "execve", "clone3"]))

    for call, args in [("socket", (UNIX, STREAM, 0)), ("execve", ()), ("clone3", ())]:
        assert EPERM == judge(program, arch, number_of(call, arch), args)
        assert EPERM != verdict("namespaces", arch, call, args)
    assert ALLOW == judge(program, arch, number_of("read", arch))


@needs_libseccomp
@pytest.mark.parametrize("key", ["allow", "deny"])
def test_policy_names_a_call_of_another_architecture(key):
    """
    A name that only another architecture has changes nothing here.
    """
    for name in ("open", "uretprobe", "stat64"):
        changed = compile_filter("namespaces", "aarch64", **{key: [name]})

        assert compile_filter("namespaces", "aarch64") == changed


@needs_libseccomp
@pytest.mark.parametrize("key", ["allow", "deny"])
def test_policy_names_no_call(key):
    """
    A name that is no system call's is an error of the policy, with the name that may have been meant.
    """
    with pytest.raises(PolicyError) as caught:
        compile_filter("namespaces", "x86_64", **{key: ["process_vm_reads"]})

    expected = "there is no system call 'process_vm_reads'. Did you mean \"process_vm_readv\"?"
    assert f"{key}_syscalls" == caught.value.key
    assert f"{key}_syscalls: {expected}" == str(caught.value)


@needs_libseccomp
def test_policy_contradicts_itself():
    """
    A call cannot be both allowed and denied.
    """
    with pytest.raises(PolicyError, match="'bpf' is both allowed and denied"):
        compile_filter("namespaces", "x86_64", allow=["bpf"], deny=["kcmp", "bpf"])


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (ImportError("No module named 'pyseccomp'"), "no pyseccomp"),
        (RuntimeError("Unable to find libseccomp"), "pyseccomp says: Unable to find libseccomp"),
    ],
)
def test_nothing_to_compile_with(error, found, monkeypatch):
    """
    Without pyseccomp or libseccomp nothing is compiled, and the error says how to install them; loading works.
    """
    genuine = importlib.import_module

    def fail(name):
        if name == "pyseccomp":
            raise error
        return genuine(name)

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(UnsupportedError) as caught:
        compile_filter("namespaces", "x86_64")

    assert ("libseccomp", found) == (caught.value.feature, caught.value.found)
    assert "apt-get install libseccomp2 && pip install pyseccomp" == caught.value.cure
    assert load_filter("namespaces", "x86_64")


@needs_libseccomp
def test_libseccomp_fails(monkeypatch):
    """
    A libseccomp too old for what is asked of it is reported as such.
    """

    def refuse(*_):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(pyseccomp.SyscallFilter, "set_attr", refuse)
    with pytest.raises(UnsupportedError) as caught:
        compile_filter("namespaces", "x86_64")

    assert "libseccomp says: [Errno 22] Invalid argument" == caught.value.found


@needs_libseccomp
def test_filter_of_unknown_shape(monkeypatch):
    """
    A filter in which libseccomp's own check of the architecture is not found is not passed on.
    """
    monkeypatch.setattr(pyseccomp, "system_arch", lambda: 0xC00000F3)
    with pytest.raises(UnsupportedError) as caught:
        compile_filter("namespaces", "x86_64")

    assert "a libseccomp whose filters do not begin as expected" == caught.value.found


def test_every_variant_is_in_the_table():
    """
    The table knows the variants that there are filters for, and no other.
    """
    assert sorted(VARIANTS) == sorted(TABLE["variants"])
    assert list(VARIANTS) == sorted(VARIANTS)


def test_no_call_is_in_two_places():
    """
    A call has one verdict: it is in one group, once, or has one rule.
    """
    names = [name for group in TABLE["groups"].values() for name in group["calls"]] + list(TABLE["rules"])

    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", [*TABLE["groups"], *TABLE["rules"]])
def test_entry_is_complete(name):
    """
    Each group and rule says what it is for and where that is from, and asks for what a variant can have.
    """
    entry = TABLE["groups"].get(name) or TABLE["rules"][name]
    traits = {trait for traits in TABLE["variants"].values() for trait in traits}
    lines = [*entry.get("allow", ()), *entry.get("deny", ())]
    asked = {line[key] for line in [entry, *lines] for key in ("needs", "unless") if key in line}

    assert entry["help"]
    assert entry["source"]
    assert asked <= traits
    if "calls" in entry:
        assert {"help", "source", "verdict", "calls"} == set(entry) - {"needs", "otherwise"}
        assert entry["verdict"] in {"allow", "deny", "absent"}
    else:
        assert {"help", "source", "arguments"} == set(entry) - {"allow", "deny"}
        assert 1 == len({"allow", "deny"} & set(entry))


@pytest.mark.parametrize("rule", TABLE["rules"].values(), ids=TABLE["rules"])
def test_rule_names_its_arguments(rule):
    """
    A rule's lines speak of the arguments that it names, with values that the argument can have.
    """
    masks = {name: argument.get("mask", 0xFFFFFFFF) for name, argument in rule["arguments"].items()}
    lines = [*rule.get("allow", ()), *rule.get("deny", ())]
    asked = [(key, value) for line in lines for key in set(line) - {"needs", "unless"} for value in line[key]]

    assert set(masks) == {key for key, _ in asked}
    assert [] == [(key, value) for key, value in asked if value & ~masks[key]]


@needs_libseccomp
@pytest.mark.parametrize("arch", ARCHES)
def test_every_call_has_a_verdict(arch):
    """
    Whatever libseccomp knows for this architecture is in the table, up to the table's last number.
    """
    known = {}
    for number in range(max(TABLE["numbers"]["all"].values()) + 1):
        try:
            known[pyseccomp.resolve_syscall(TOKENS[arch], number).decode()] = number
        except ValueError:
            continue

    assert {} == {name: number for name, number in known.items() if name not in GROUPS | TABLE["rules"]}
    assert len(known) > 280


@needs_libseccomp
@pytest.mark.parametrize("name", sorted(GROUPS | TABLE["rules"]))
def test_every_name_is_a_call(name):
    """
    Each name is the kernel's, for one architecture at least; no typo hides in the table.
    """
    numbers = [pyseccomp.resolve_syscall(TOKENS[arch], name) for arch in ARCHES]

    assert any(name in known for known in TABLE["numbers"].values()) or max(numbers) >= 0


@needs_libseccomp
@pytest.mark.parametrize(("name", "number"), TABLE["numbers"]["all"].items())
def test_numbers_agree(name, number):
    """
    Where libseccomp knows a call, it knows it by the number that the table gives it.
    """
    found = {pyseccomp.resolve_syscall(TOKENS[arch], name) for arch in ARCHES}

    assert found <= {number, -1}


@pytest.mark.parametrize(("call", "numbers"), NUMBERS.items())
@needs_libseccomp
def test_numbers_of_the_tests_agree(call, numbers):
    """
    So do the numbers that these tests use.
    """
    for arch, number in zip(ARCHES, numbers, strict=True):
        found = pyseccomp.resolve_syscall(TOKENS[arch], call)
        assert found == number or found < 0


def test_partition_of_nothing():
    """
    Without a line nothing is allowed; with a line that asks for nothing everything is.
    """
    assert [((), False)] == list(partition([], []))
    assert [((), True)] == list(partition([], [{}]))


@pytest.mark.parametrize(
    "program",
    [
        pytest.param([], id="empty"),
        pytest.param([(0x06, 0, 0, 0)] * 4097, id="too_long"),
        pytest.param([(0x20, 0, 0, 0)], id="no_return"),
        pytest.param([(0x15, 1, 0, 0), (0x06, 0, 0, 0)], id="jump_out"),
        pytest.param([(0x05, 0, 0, 5), (0x06, 0, 0, 0)], id="jump_always_out"),
        pytest.param([(0x20, 0, 0, 64), (0x06, 0, 0, 0)], id="load_beyond"),
        pytest.param([(0x20, 0, 0, 2), (0x06, 0, 0, 0)], id="load_unaligned"),
        pytest.param([(0x07, 0, 0, 0), (0x06, 0, 0, 0)], id="unknown_operation"),
    ],
)
def test_machine_refuses(program):
    """
    The machine that runs the filters in these tests takes no program that the kernel would not.
    """
    with pytest.raises(BadProgramError):
        parse(b"".join(_pack(*instruction) for instruction in program))


def _pack(operation, true, false, constant):
    return operation.to_bytes(2, "little") + bytes([true, false]) + constant.to_bytes(4, "little")


def test_machine_runs():
    """
    It loads, masks, compares and jumps as networking/filter.rst says.
    """
    code = [
        (0x20, 0, 0, 16),  # ld args[0], low
        (0x54, 0, 0, 0xF0),  # and
        (0x15, 4, 0, 0x10),  # jeq
        (0x25, 3, 0, 0x80),  # jgt
        (0x35, 1, 0, 0x80),  # jge
        (0x05, 0, 0, 2),  # ja
        (0x06, 0, 0, 0x80000000),
        (0x06, 0, 0, 0x7FFF0000),
        (0x45, 0, 1, 0x20),  # jset
        (0x06, 0, 0, 0x50001),
        (0x06, 0, 0, 0x50026),
    ]
    program = parse(b"".join(_pack(*instruction) for instruction in code))
    said = [judge(program, "x86_64", 0, (value,)) for value in (0x1F, 0x90, 0x80, 0x20, 0x40, -0x10)]

    assert [ALLOW, ALLOW, KILL_PROCESS, EPERM, ENOSYS, ALLOW] == said
