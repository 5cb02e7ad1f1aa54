"""
Which system calls a hostile program gets through to the kernel, in whatever spelling.
"""

import os

import pytest

pytestmark = pytest.mark.needs("libseccomp")

X86_64 = os.uname().machine == "x86_64"
UNKNOWN_TO_LIBSECCOMP = {
    "quotactl_fd": 443, "memfd_secret": 447, "process_mrelease": 448, "set_mempolicy_home_node": 450,
    "statmount": 457, "listmount": 458, "lsm_set_self_attr": 460, "open_tree_attr": 467, "listns": 470,
}  # fmt: skip

# Calls that no program gets through to the kernel, with arguments that make the kernel itself say something else
# where it is asked: that is the control, in a sandbox whose policy allows the call. Where it says EPERM as well,
# it is because there is no capability.
DENIED = {
    "acct": ((-1,), "EPERM"),
    "add_key": ((0, 0, 0, 0, 0), "EFAULT"),
    "adjtimex": ((0,), "EFAULT"),
    "bpf": ((-1, 0, 0), "EINVAL EPERM"),
    "chroot": ((0,), "EFAULT"),
    "clock_adjtime": ((99, 0), "EINVAL EFAULT"),
    "clock_settime": ((99, 0), "EINVAL"),
    "delete_module": ((0, 0), "EPERM"),
    "fanotify_init": ((0xFFFF0000, 0), "EINVAL EPERM"),
    "fanotify_mark": ((-1, 0, 0, -1, 0), "EINVAL"),
    "finit_module": ((-1, 0, 0), "EPERM"),
    "fsconfig": ((-1, 99, 0, 0, 0), "EINVAL ENOTSUP"),
    "fsmount": ((-1, 99, 0), "EPERM EINVAL"),
    "fsopen": ((0, 99), "EPERM"),
    "fspick": ((-1, 0, 99), "EPERM"),
    "get_mempolicy": ((0, 0, 0, 0, 99), "EINVAL"),
    "init_module": ((0, 0, 0), "EPERM"),
    "io_uring_enter": ((-1, 0, 0, 0x1000000, 0, 0), "EINVAL"),
    "io_uring_register": ((-1, 0, 0, 0), "EBADF EINVAL"),
    "io_uring_setup": ((0, 0), "EFAULT"),
    "kcmp": ((1 << 30, 1 << 30, 99, 0, 0), "ESRCH"),
    "kexec_load": ((0, 99, 0, 0), "EPERM"),
    "keyctl": ((9999,), "ENOTSUP"),
    "listmount": ((0, 0, 0, 99), "EINVAL"),
    "lookup_dcookie": ((0, 0, 0), "ENOSYS"),
    "lsm_set_self_attr": ((0, 0, 0, 99), "EINVAL ENOTSUP"),
    "mbind": ((0, 0, 99, 0, 0, 99), "EINVAL"),
    "memfd_secret": ((0xFF,), "EINVAL ENOSYS"),
    "migrate_pages": ((1 << 30, 0, 0, 0), "ESRCH"),
    "mount": ((1, 1, 1, 0, 0), "EFAULT"),
    "mount_setattr": ((-1, 0, 0xF0000000, 0, 0), "EINVAL"),
    "move_mount": ((-1, 0, -1, 0, 0xF0000000), "EPERM"),
    "move_pages": ((1 << 30, 0, 0, 0, 0, 99), "EINVAL"),
    "name_to_handle_at": ((-1, 0, 0, 0, 0xF0000000), "EINVAL"),
    "open_by_handle_at": ((-1, 0, 0), "EPERM EFAULT EBADF"),
    "open_tree": ((-1, 0, 0xF0000000), "EINVAL"),
    "open_tree_attr": ((-1, 0, 0, 0, 99), "EINVAL"),
    "perf_event_open": ((0, 0, -1, -1, 0xF0000000), "EINVAL"),
    "pidfd_getfd": ((-1, 0, 0), "EBADF"),
    "pivot_root": ((0, 0), "EPERM"),
    "process_madvise": ((-1, 0, 0, 0, 99), "EINVAL"),
    "process_mrelease": ((-1, 99), "EINVAL"),
    "process_vm_readv": ((1 << 30, 0, 0, 0, 0, 99), "EINVAL"),
    "process_vm_writev": ((1 << 30, 0, 0, 0, 0, 99), "EINVAL"),
    "ptrace": ((0x4206, 1 << 30, 0, 0), "ESRCH"),
    "quotactl": ((-1, 0, 0, 0), "EINVAL"),
    "quotactl_fd": ((-1, -1, 0, 0), "EBADF EINVAL"),
    "reboot": ((0, 0, 0, 0), "EPERM"),
    "request_key": ((0, 0, 0, 0), "EFAULT"),
    "set_mempolicy": ((99, 0, 0), "EINVAL"),
    "set_mempolicy_home_node": ((1, 0, 0, 0), "EINVAL"),
    "setdomainname": ((0, 0), "EPERM"),
    "sethostname": ((0, 0), "EPERM"),
    "setns": ((-1, 0), "EBADF"),
    "settimeofday": ((1, 0), "EFAULT"),
    "statmount": ((0, 0, 0, 99), "EINVAL"),
    "swapoff": ((0,), "EPERM"),
    "swapon": ((0, 0), "EPERM"),
    "syslog": ((99, 0, 0), "EINVAL EPERM"),
    "umount2": ((0, 0xF0000000), "EINVAL"),
    "unshare": ((1,), "EINVAL"),
    "userfaultfd": ((0xF0000000,), "EINVAL EPERM"),
    "vhangup": ((), "EPERM"),
    "vmsplice": ((-1, 0, 0, 0), "EBADF"),
}
if X86_64:
    DENIED |= {
        "iopl": ((99,), "EINVAL"),
        "ioperm": ((-1, -1, 1), "EINVAL"),
        "modify_ldt": ((99, 0, 0), "done"),
    }


def number(name):
    """
    A call's number here.
    """
    import pyseccomp

    found = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
    return found if found >= 0 else UNKNOWN_TO_LIBSECCOMP[name]


@pytest.mark.parametrize("name", DENIED)
def test_denied(name, tier):
    """
    The call is EPERM, though the kernel would answer otherwise where it could.
    """
    arguments, kernel = DENIED[name]
    act = f"syscall({number(name)}, *{arguments})"

    assert "EPERM" == tier.attempt(act)
    # ENOSYS: this kernel was built without it. EPERM: the container's own filter has it, too.
    without = ("ENOSYS", "EPERM") if tier.tier == "Landlock" else ("ENOSYS",)
    assert tier.attempt(act, allow_syscalls=[name]) in (*kernel.split(), *without)


ABSENT = {
    "clone3": 435,
    "next": 471,
    "far": 600,
    "last": 0x3FFFFFFF if X86_64 else 0x7FFFFFFF,
    "minus_one": -1,
}


@pytest.mark.parametrize("name", ABSENT)
def test_absent(name, tier):
    """
    clone3(2), whose flags no filter can see, does not exist, nor does any call of a kernel yet to come.
    """
    assert "ENOSYS" == tier.attempt(f"syscall({ABSENT[name]}, 0, 0)")
    assert "done" == tier.attempt(f"syscall({number('getpid')})")


def test_openat2(tier, outside):
    """
    openat2(2), which has the mode in memory, does not make a file that open(2) may not.
    """
    act = "syscall(437, -100, at(b'/etc'), at(struct.pack('QQQ', 0, 0, 0)), 24)"

    assert "ENOSYS" == tier.attempt(act)
    assert "done" == outside(act)


FOREIGN = {
    "x32_getpid": "syscall(0x40000000 | 39)",
    "x32_execve": "syscall(0x40000000 | 520, 0, 0, 0)",
    "x32_high": "syscall(0x7FFFFFFF)",
    "i386_getpid": "i386(20)",
    "i386_socket": "i386(359, 1, 1, 0)",
}
# mov eax, edi; mov ebx, esi; mov ecx, edx; xor edx, edx; int 0x80; ret - with rbx kept
I386 = """
import mmap
code = bytes.fromhex("53 89f8 89f3 89d1 31d2 cd80 5b c3".replace(" ", ""))
page = mmap.mmap(-1, 4096, prot=7); page.write(code)
entry = ctypes.addressof(ctypes.c_char.from_buffer(page))
def i386(*args):
    result = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_long] * 3)(entry)(*(*args, 0, 0)[:3])
    if result < 0: raise OSError(-result, "int 0x80")
"""


@pytest.mark.skipif(not X86_64, reason="ABIs of x86_64")
@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_abi(name, tier, outside):
    """
    A call by another ABI's numbers ends the process.
    """
    assert "SIGSYS" == tier.attempt(I386 + FOREIGN[name])
    control = outside(I386 + FOREIGN[name])
    assert ("done" if name.startswith("i386") else "ENOSYS") == control


def test_foreign_abi_ends_the_whole_process(tier):
    """
    All of the process, be it one of many threads that makes the call.
    """
    if not X86_64:
        pytest.skip("ABIs of x86_64")
    act = "import threading; threading.Thread(target=lambda: libc.syscall(0x40000000)).start(); time.sleep(1000)"

    assert "SIGSYS" == tier.attempt(act)


NEW = {
    "NEWTIME": 0x80, "NEWNS": 0x20000, "NEWCGROUP": 0x2000000, "NEWUTS": 0x4000000, "NEWIPC": 0x8000000,
    "NEWUSER": 0x10000000, "NEWPID": 0x20000000, "NEWNET": 0x40000000,
}  # fmt: skip


@pytest.mark.parametrize("flag", NEW)
@pytest.mark.parametrize("high", [0, 1 << 32, 0xFFFFFFFF << 32], ids=["plain", "bit_32", "high_bits"])
def test_namespaces(flag, high, tier):
    """
    No process is started in a new namespace, and none goes to one, with whatever in the half that the kernel ignores.
    """
    clone = f"pid = syscall({number('clone')}, {NEW[flag] | 17 | high}, 0, 0, 0, 0)\nif pid == 0: os._exit(0)"

    if flag != "NEWTIME":  # part of the exit signal to clone(2)
        assert "EPERM" == tier.attempt(clone)
    assert "EPERM" == tier.attempt(f"syscall({number('unshare')}, {NEW[flag] | high})")
    assert "done" == tier.attempt(
        f"pid = syscall({number('clone')}, {17 | high}, 0, 0, 0, 0)\nif pid == 0: os._exit(0)"
    )


def test_namespaces_without_a_sandbox(outside):
    """
    The control: an ordinary process gets a new user namespace, and with it the others.
    """
    if outside("call('unshare', 0x10000000)") != "done":
        pytest.skip("host lacks userns")

    assert "done" == outside(
        f"pid = syscall({number('clone')}, {0x10000000 | 0x20000 | 17}, 0, 0, 0, 0)\nif pid == 0: os._exit(0)"
    )


BY_ARGUMENT = {
    "personality_read_implies_exec": ("syscall(NR, 0x0400000)", "personality"),
    "personality_high_bits": ("syscall(NR, 0x100400000)", "personality"),
    "listener": ("syscall(NR, 1, 8, at(bytes(16)))", "seccomp"),
    "listener_high_bits": ("syscall(NR, 1, 1 << 32 | 8, at(bytes(16)))", "seccomp"),
}
HARMLESS = {
    "personality": "syscall(NR, 0xFFFFFFFF)",
    "seccomp": "syscall(NR, 2, 0, at(struct.pack('I', 0x7FFF0000)))",
}


@pytest.mark.parametrize("name", BY_ARGUMENT)
def test_by_argument(name, tier):
    """
    A call that is harmless with some arguments is EPERM with the others.
    """
    act, call = BY_ARGUMENT[name]

    assert "EPERM" == tier.attempt(act.replace("NR", str(number(call))))
    assert "done" == tier.attempt(HARMLESS[call].replace("NR", str(number(call))))


OWN_FILTER = """
code = b"".join(struct.pack("HBBI", *i) for i in ((0x20, 0, 0, 0), (6, 0, 0, 0x7FFF0000)))
program = struct.pack("HxxxxxxQ", 2, at(code))
syscall(NR, 1, 0, at(program))
"""


def test_filter_of_its_own(tier):
    """
    A filter of the program's own that allows everything allows nothing more.
    """
    act = OWN_FILTER.replace("NR", str(number("seccomp")))

    assert "done" == tier.attempt(act)
    assert "EPERM" == tier.attempt(act + f"syscall({number('ptrace')}, 0, 0, 0, 0)")


@pytest.mark.parametrize("through", ["thread", "child", "program"])
def test_filter_goes_along(through, tier):
    """
    Threads, children and executed programs have the filter too.
    """
    act = f"""
def probe(): syscall({number("ptrace")}, 0, 0, 0, 0)
how = sys.argv[1]
if how == "thread":
    import threading
    caught = []
    def run():
        try: probe()
        except OSError as exc: caught.append(exc)
    t = threading.Thread(target=run); t.start(); t.join()
    raise caught[0]
if how == "child":
    pid = os.fork()
    if pid: sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    probe()
if how == "program":
    os.execv(sys.executable, [sys.executable, "-I", "-S", "-c",
        "import ctypes, sys; l = ctypes.CDLL(None, use_errno=True); l.syscall({number("ptrace")}, 0, 0, 0, 0); sys.exit(ctypes.get_errno())"])
"""
    assert "EPERM" == tier.attempt(act, through)


def test_lease(tier, workspace, outside):
    """
    No lease is taken on a file in the workspace: the harness that opens it would wait for the program, for up to 45 seconds.
    """
    act = "fcntl.fcntl(os.open(sys.argv[1], os.O_RDWR), fcntl.F_SETLEASE, fcntl.F_WRLCK)"

    assert "EPERM" == tier.attempt(act, workspace / "f", workspace=str(workspace), workspace_access="write")
    assert "done" == outside(act, workspace / "f")
