"""
Which tests run in a guest: the one list. A guest is some eleven times slower than the machine that it is on, so what
is here takes less than 100 seconds there, and nothing in it depends on how fast it goes.
"""

# What depends on it after all, in files that are otherwise for guests: jail-init looks at /proc from time to time, and
# what it is to see there is over, or has filled the guest, before it looks. As pytest's --deselect takes it.
TIMED = (
    "tests/kernel/test_cgroup.py::test_report_timeline_from_the_files",
    "tests/kernel/test_limits.py::test_allow_processor_time",
    "tests/kernel/test_limits.py::test_deny_memory[",
    "tests/kernel/test_limits.py::test_deny_processes[",
    "tests/kernel/test_limits.py::test_deny_processor_time[",
    "tests/kernel/test_limits_tiers.py::test_deny_processes[",
    "tests/kernel/test_rlimit.py::test_report_processes",
    "tests/kernel/test_usage.py::test_report_memory_of_all",
    "tests/kernel/test_usage.py::test_report_processes",
    "tests/kernel/test_usage.py::test_report_timeline",
    "tests/kernel/test_usage.py::test_report_wall_and_processor_time",
)


def kernel(names):
    """
    Files of tests/kernel by their rooms, as paths or patterns.
    """
    return tuple(f"tests/kernel/test_{name}.py" for name in names.split())


CGROUPS = kernel("cgroup* limits* usage*")

ROOMS = (
    *CGROUPS,
    *kernel("userns uts ipc net proc dev mount tree scratch landlock landlock_tier landlock_teardown"),
    *kernel("seccomp cred rlimit fds environment signals exec streams session spawn plan teardown tiers"),
    *kernel("files files_refused pty sockets"),
)

DELEGATED = ("tests/vm/test_delegation.py", *CGROUPS, *kernel("userns session rlimit tiers"))

REFUSED = ("tests/vm/test_refused.py", *kernel("landlock files_refused"))
# How they are refused makes no difference to what stands instead, so one way, of Linux 6.12 on, is enough for the rest.
LANDLOCK = (*REFUSED, *CGROUPS, *kernel("landlock_tier landlock_teardown files pty"))

# What containers promise on cgroup v2, and that they keep it; the rest of them is for tests/container.
CONTAINED = ("tests/container/guarantees.py", *kernel("cgroup*"))

TOO_OLD = ("tests/vm/test_old_kernel.py",)

# For CI, where a kernel has some three minutes.
CI_ROOMS = (*CGROUPS, *kernel("userns uts net proc mount landlock seccomp cred rlimit session sockets tiers"))
CI_DELEGATED = ("tests/vm/test_delegation.py", *kernel("cgroup* session tiers"))
CI_REFUSED = ("tests/vm/test_refused.py",)


def expand(patterns, top):
    """
    The paths, from the top, that some patterns stand for.

    Raises:
        SystemExit: a path that is no pattern is missing, or nothing is left: pytest would take that for everything.
    """
    found = []
    for pattern in patterns:
        paths = sorted(top.glob(pattern))
        if not paths and "*" not in pattern:
            raise SystemExit(f"{pattern}: no such test")
        found += [str(path.relative_to(top)) for path in paths]
    if not found:
        raise SystemExit(f"no test is there of {' '.join(patterns)}")
    return found
