"""
A harness in a process of its own, at the tier that its first argument names.

The tests talk to it in lines of JSON: it is what a hostile program would attack, so it may hang or die, and
only this way can it find itself in a container. A request is Python source; the answer is what that source
leaves in `answer`, or the exception that ended it.
"""

import ctypes
import errno
import json
import os
import signal
import sys

import jail
from jail.plan import choose_tier

CLONE_NEWUSER = 0x10000000
PR_SET_CHILD_SUBREAPER = 36
NAMESPACE_FLAGS = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)

# Python that runs inside: the act is the first argument. It ends with an errno, with 0, or with a traceback.
ACT = """
import ctypes, errno, fcntl, os, resource, signal, socket, stat, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def check(result, what="call"):
    if result == -1:
        raise OSError(ctypes.get_errno(), what)
    return result
kept = []
def at(data):
    kept.append(ctypes.create_string_buffer(data))
    return ctypes.addressof(kept[-1])
def call(name, *args):
    return check(getattr(libc, name)(*args), name)
def syscall(number, *args):
    libc.syscall.restype = ctypes.c_long
    return check(libc.syscall(*map(ctypes.c_long, (number, *args))), number)
try:
    exec(sys.argv.pop(1))
except OSError as exc:
    if exc.errno is None:
        raise
    sys.stdout.flush()
    os._exit(exc.errno)
"""
PYTHON = (sys.executable, "-I", "-S", "-c")


def enter_user_namespace():
    """
    Be root in a new user namespace, below which there are no others: the tier "privileged namespaces".
    """
    uid, gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), "unshare")
    for path, text in (
        ("/proc/self/uid_map", f"0 {uid} 1"),
        ("/proc/self/setgroups", "deny"),
        ("/proc/self/gid_map", f"0 {gid} 1"),
        ("/proc/sys/user/max_user_namespaces", "0"),
    ):
        with open(path, "w") as file:
            file.write(text)


def enter_container():
    """
    Take away what Docker's default filter takes from a container without CAP_SYS_ADMIN.

    Source: moby/profiles/seccomp/default.json
    """
    import pyseccomp

    refusing = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    for name in (
        "unshare", "setns", "mount", "umount2", "pivot_root", "fsopen", "fsmount", "fsconfig", "fspick",
        "move_mount", "open_tree", "mount_setattr",
    ):  # fmt: skip
        refusing.add_rule(pyseccomp.ERRNO(errno.EPERM), name)
    for flag in NAMESPACE_FLAGS:
        refusing.add_rule(
            pyseccomp.ERRNO(errno.EPERM), "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, flag, flag)
        )
    refusing.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")
    refusing.load()


ENTER = {
    "namespaces": lambda: None,
    "privileged": enter_user_namespace,
    "Landlock": enter_container,
}


def policy_fields(fields):
    """
    The fields, with what this tier cannot promise to anybody waived: it has no tmpfs to bound what is written.
    """
    waive = ["disk"] if choose_tier(jail.probe()) == "Landlock" else []
    return {**fields, "waive": [*fields.get("waive", []), *waive]}


def describe(result):
    """
    How a run ended, in one word: "done", an errno's name, a signal's name, "timed out" or another outcome's.
    """
    match result.outcome:
        case jail.Exited(0):
            return "done"
        case jail.Exited(code) if not result.stderr:
            return errno.errorcode.get(code, f"exit {code}")
        case jail.Signalled(number):
            return signal.Signals(number).name
        case jail.TimedOut():
            return "timed out"
        case jail.Exited():
            return f"{result.outcome}: {result.stderr.text[-2000:]}"
    return type(result.outcome).__name__


def run(cmd, *, box=None, options=None, **fields):
    """
    One program, in a sandbox of its own or in `box`: the Result, or the name of the error that kept it from being.
    """
    if box is not None:
        return box.run(cmd, **fields)
    return jail.run(cmd, **(options or {}), **policy_fields(fields))


def attempt(act, *args, box=None, options=None, **fields):
    """
    How an act inside ended, in one word, and what it printed.
    """
    fields.setdefault("timeout", 60)
    try:
        result = run([*PYTHON, ACT, act, *map(str, args)], box=box, options=options, **fields)
    except jail.JailError as exc:
        return type(exc).__name__, str(exc)
    return describe(result), result.stdout.text


def main():
    """
    Enter the tier, say what was found there, and serve until the end of input.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    ctypes.CDLL(None).prctl(
        PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0
    )  # what outlives its sandbox is found here, and ended
    try:
        ENTER[sys.argv[1]]()
        host = jail.probe()
        hello = {"tier": choose_tier(host).name, "proc": host.has("proc"), "pid": os.getpid()}
    except (OSError, jail.JailError) as exc:
        hello = {"refused": str(exc)}
    print(json.dumps(hello), file=answers)
    for line in sys.stdin:
        scope = {"jail": jail, "attempt": attempt, "run": run, "policy_fields": policy_fields, "answer": None}
        scope |= {"ACT": ACT, "PYTHON": PYTHON, "describe": describe}
        request = json.loads(line)
        try:
            exec(request["source"], scope := scope | request["names"])
            reply = {"answer": scope["answer"]}
        except BaseException as exc:
            reply = {"error": type(exc).__name__, "text": str(exc)}
        print(json.dumps(reply), file=answers)


if __name__ == "__main__":
    main()
