"""
Which tests run inside a container: what is promised there, all that a hostile program tries, and of the rooms' tests
those that need neither a compiler nor a server.
"""

__all__ = ["PROMISES", "choose"]

PROMISES = "tests/container/guarantees.py"
ESCAPES = "tests/escape"


def kernel(names):
    """
    Files of tests/kernel by their rooms, as patterns: what is not there yet is no error.
    """
    return tuple(f"tests/kernel/test_{name}.py" for name in names.split())


# Of what the patterns stand for: it needs compilers and runtimes.
LEFT_OUT = kernel("limits_runtimes")

LIMITS = kernel("cgroup* limits* usage* watch*")
ROOMS = (
    *LIMITS,
    *kernel(
        "userns uts ipc net proc dev mount tree scratch landlock* seccomp cred rlimit fds environment signals"
    ),
    *kernel("exec spawn plan hosts teardown tiers tighten deadline files* popen* pty"),
)

# Where there are but minutes: the promises in every case, and these in one of each tier.
CI = {
    "restricted": (ESCAPES, *LIMITS, *kernel("landlock* deadline teardown")),
    "unmasked-user": (ESCAPES, *kernel("limits* usage* watch* userns mount proc net teardown")),
}


def choose(asked, case, top):
    """
    The paths of a case's tests, from the top.

    Args:
        asked: paths from the top; "ci"; or nothing, for all.
        case: its name.
        top: of the checkout.
    """
    patterns = asked.split() or (PROMISES, ESCAPES, *ROOMS)
    if asked == "ci":
        patterns = (PROMISES, *CI.get(case, ()))
    found = []
    for pattern in patterns:
        paths = sorted(top.glob(pattern.partition("::")[0]))
        if not paths and "*" not in pattern:
            raise SystemExit(f"{pattern}: no such test")
        found += [pattern] if "::" in pattern else [str(path.relative_to(top)) for path in paths]
    return [path for path in found if path not in LEFT_OUT or path in asked]
