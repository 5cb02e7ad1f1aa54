"""
Which system calls exist inside, asked of the kernel itself. seccomp(2)
"""

import errno
import json
import signal
import subprocess
import sys

import pytest

import jail

pytestmark = pytest.mark.needs("userns", "seccomp")

# Numbers of x86_64 and aarch64, as in their unistd.h; the arguments are such that nothing happens if it is allowed.
EPERM, ENOSYS = errno.EPERM, errno.ENOSYS
CALLS = [
    # name, x86_64, aarch64, arguments, errno inside
    ("getpid", 39, 172, (), 0),
    ("mount", 165, 40, (0, 0, 0, 0, 0), EPERM),
    ("umount2", 166, 39, (0, 0), EPERM),
    ("pivot_root", 155, 41, (0, 0), EPERM),
    ("open_tree", 428, 428, (-1, 0, 1 << 30), EPERM),
    ("move_mount", 429, 429, (-1, 0, -1, 0, 1 << 30), EPERM),
    ("fsopen", 430, 430, (0, 0), EPERM),
    ("mount_setattr", 442, 442, (-1, 0, 0, 0, 0), EPERM),
    ("statmount", 457, 457, (0, 0, 0, 0), EPERM),
    ("unshare user", 272, 97, (0x10000000,), EPERM),
    ("unshare nothing", 272, 97, (0,), EPERM),
    ("setns", 308, 268, (-1, 0), EPERM),
    ("clone3", 435, 435, (0, 0), ENOSYS),
    ("ptrace", 101, 117, (16, -1, 0, 0), EPERM),
    ("process_vm_readv", 310, 270, (-1, 0, 0, 0, 0, 0), EPERM),
    ("process_vm_writev", 311, 271, (-1, 0, 0, 0, 0, 0), EPERM),
    ("pidfd_getfd", 438, 438, (-1, 0, 0), EPERM),
    ("kcmp", 312, 272, (-1, -1, 0, 0, 0), EPERM),
    ("keyctl", 250, 219, (0, -3, 0), EPERM),
    ("add_key", 248, 217, (0, 0, 0, 0, 0), EPERM),
    ("request_key", 249, 218, (0, 0, 0, 0), EPERM),
    ("io_uring_setup", 425, 425, (0, 0), EPERM),
    ("io_uring_enter", 426, 426, (-1, 0, 0, 0), EPERM),
    ("bpf", 321, 280, (-1, 0, 0), EPERM),
    ("perf_event_open", 298, 241, (0, 0, -1, -1, 0), EPERM),
    ("userfaultfd", 323, 282, (-1,), EPERM),
    ("open_by_handle_at", 304, 265, (-1, 0, 0), EPERM),
    ("fanotify_init", 300, 262, (-1, 0), EPERM),
    ("init_module", 175, 105, (0, 0, 0), EPERM),
    ("finit_module", 313, 273, (-1, 0, 0), EPERM),
    ("kexec_load", 246, 104, (0, 1 << 20, 0, 0), EPERM),
    ("reboot", 169, 142, (0, 0, 0, 0), EPERM),
    ("syslog", 103, 116, (-1, 0, 0), EPERM),
    ("swapon", 167, 224, (0, 0), EPERM),
    ("sethostname", 170, 161, (0, 1), EPERM),
    ("settimeofday", 164, 170, (1, 0), EPERM),
    ("acct", 163, 89, (1,), EPERM),
    ("memfd_secret", 447, 447, (-1,), EPERM),
    ("mbind", 237, 235, (0, 0, 0, 0, 0, -1), EPERM),
    ("personality read-implies-exec", 135, 92, (0x0400000,), EPERM),
    ("personality question", 135, 92, (0xFFFFFFFF,), 0),
    ("seccomp new listener", 317, 277, (1, 8, 0), EPERM),
    ("seccomp action available", 317, 277, (0, 1, 0), errno.EINVAL),  # the kernel's own answer
    ("clone new user", 56, 220, (0x10000000, 0, 0, 0, 0), EPERM),
    ("clone new user, high bits", 56, 220, (0x1_1000_0000, 0, 0, 0, 0), EPERM),
    ("socket packet", 41, 198, (17, 3, 0), EPERM),
    ("a call of the future", 4000, 4000, (), ENOSYS),
    ("not a call", -1, -1, (), ENOSYS),
]
NUMBER = {"x86_64": 1, "aarch64": 2}[jail.probe().arch]

ASK = """
import ctypes, json, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
answers = {}
for name, number, args in json.loads(sys.argv[1]):
    ctypes.set_errno(0)
    answers[name] = ctypes.get_errno() if libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, args)) == -1 else 0
print(json.dumps(answers))
"""


def test_verdicts(inside):
    """
    What is denied is EPERM, what does not exist ENOSYS, and what is allowed is the kernel's to answer.
    """
    calls = [(name, numbers[NUMBER - 1], args) for name, *numbers, args, _ in CALLS]

    assert {name: expected for name, *_, expected in CALLS} == inside(ASK, json.dumps(calls))


def test_the_same_calls_without_jail():
    """
    The control: outside of a sandbox none of the denied ones is refused for being that call.
    """
    harmless = [
        c for c in CALLS if not c[0].startswith(("clone new", "unshare", "not a", "syslog", "reboot"))
    ]
    calls = [(name, numbers[NUMBER - 1], args) for name, *numbers, args, _ in harmless]
    done = subprocess.run([sys.executable, "-c", ASK, json.dumps(calls)], stdout=subprocess.PIPE, check=True)
    answers = json.loads(done.stdout)

    assert errno.EINVAL == answers["clone3"]
    assert errno.EFAULT == answers["request_key"]
    assert errno.EBADF == answers["setns"]
    assert errno.EINVAL == answers["userfaultfd"]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        pytest.param({}, 0, id="allow_by_default"),
        pytest.param({"deny_syscalls": ["getpriority"]}, EPERM, id="deny_by_policy"),
    ],
)
@pytest.mark.needs("libseccomp")
def test_deny_syscalls(rules, expected, attempt):
    """
    A call that the policy denies is EPERM.
    """
    assert expected == attempt("os.getpriority(os.PRIO_PROCESS, 0)", **rules)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        pytest.param({}, EPERM, id="deny_by_default"),
        pytest.param({"allow_syscalls": ["keyctl"]}, 0, id="allow_by_policy"),
    ],
)
@pytest.mark.needs("libseccomp")
def test_allow_syscalls(rules, expected, attempt):
    """
    A call that the policy allows is carried out.
    """
    number = {"x86_64": 250, "aarch64": 219}[jail.probe().arch]

    assert expected == attempt(f"call('syscall', {number}, 0, -3, 1)", **rules)


@pytest.mark.skipif(jail.probe().arch != "x86_64", reason="x32 and i386 are of x86_64")
@pytest.mark.parametrize("machine_code", ["b827000040 0f05 c3", "b814000000 cd80 c3"], ids=["x32", "i386"])
def test_kill_other_abi(machine_code):
    """
    A call of another ABI, whose number means something else, ends the program by SIGSYS.
    """
    code = """
import ctypes, mmap, sys
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes.fromhex(sys.argv[1]))
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
print(ctypes.CFUNCTYPE(ctypes.c_int)(address)() > -4096)
"""
    args = [sys.executable, "-I", "-S", "-c", code, machine_code]
    outside = subprocess.run(args, stdout=subprocess.PIPE, check=True).stdout

    assert b"True\n" == outside
    assert jail.Signalled(signal.SIGSYS) == jail.run(args).outcome


def test_threads_and_processes(attempt):
    """
    Threads, forks, vforks and spawns work without clone3(2), by clone(2).
    """
    code = """
import subprocess, threading, warnings
warnings.simplefilter("ignore")  # Python's, that a thread is left: one that was joined may be, for a moment
thread = threading.Thread(target=lambda: None); thread.start(); thread.join()
assert os.waitpid(os.fork() or os._exit(3), 0)[1] == 3 << 8
assert subprocess.run(['true']).returncode == 0
assert os.waitpid(os.posix_spawnp('true', ['true'], os.environ), 0)[1] == 0
"""
    assert 0 == attempt(code)
