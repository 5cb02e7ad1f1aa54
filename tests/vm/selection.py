"""
Which tests run in a guest. It is some eleven times slower than the machine it is on: a minute here is eleven there.
"""

NAMESPACES = (
    "tests/kernel/test_cgroup.py",
    "tests/kernel/test_limits*.py",
    "tests/kernel/test_usage*.py",
    "tests/kernel/test_userns.py",
    "tests/kernel/test_uts.py",
    "tests/kernel/test_tiers.py",
)
CI = NAMESPACES
REFUSED = ()
TOO_OLD = ()


def expand(patterns, top):
    """
    The paths, from the top, that some patterns stand for. One that stands for none is no error: its time may come.
    """
    return [str(path.relative_to(top)) for pattern in patterns for path in sorted(top.glob(pattern))]
