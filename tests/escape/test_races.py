"""
What a hostile program gains by changing the host's tree while the next sandbox is being built.
"""

import pytest

from escape.verdicts import Unpromised

# In the harness: exchange a directory of the workspace and a link to outside, as fast as it goes, while sandboxes
# start. CVE-2021-30465, CVE-2024-42472
LOOP = """
import collections, ctypes, os, threading
libc = ctypes.CDLL(None)
directory, link = (os.path.join(place, name).encode() for name in ("workspace/d", "workspace/link"))
os.symlink(os.path.join(place, "outside"), link)
stop = threading.Event()
def exchange():
    while not stop.is_set():
        libc.renameat2(-100, directory, -100, link, 2)  # RENAME_EXCHANGE
thread = threading.Thread(target=exchange)
thread.start()
found = collections.Counter()
try:
    for _ in range(times):
        found[attempt(act, place + "/outside/secret", place + "/workspace/d/secret", **fields)[0]] += 1
except BaseException as exc:
    found[type(exc).__name__] += 1
finally:
    stop.set()
    thread.join()
answer = dict(found)
"""
READ_ANY = """
for path in sys.argv[1:]:
    try: found = open(path).read()
    except OSError: continue
    if "outside" in found: sys.exit(250)
"""
FIELDS = {
    "read_in_workspace": {"workspace": "", "workspace_access": "write", "read": ["d"]},
    "write_in_workspace": {"workspace": "", "write": ["d"]},
    "deny_in_workspace": {"workspace": "", "workspace_access": "write", "deny": ["d/f"]},
    "workspace_below": {"workspace": "d", "workspace_access": "write"},
}


@pytest.mark.parametrize("name", FIELDS)
def test_exchanged_while_sandboxes_start(name, tier, place):
    """
    A directory that is exchanged for a link all the time is shown, or the start is refused: outside is never shown.
    """
    root = place / "workspace"
    fields = {
        key: str(root / value)
        if key == "workspace"
        else value
        if isinstance(value, str)
        else [str(root / v) for v in value]
        for key, value in FIELDS[name].items()
    }
    found = tier.ask(LOOP, act=READ_ANY, place=str(place), fields=fields, times=60)
    shown = found.pop("exit 250", 0)
    # A link that the caller names is followed, by design; who names one in a directory that others write to is warned.
    followed = {"workspace_below": Unpromised(True, "a workspace that is itself a link is the caller's word")}

    assert name in followed or 0 == shown
    assert set(found) <= {"done", "SetupError", "PolicyError", "UnsupportedError"}
    assert 60 == sum(found.values()) + shown


# A step of the harness, before which something is changed: what was resolved is not what is there.
AT_STEP = """
import contextlib, os
import jail.sandbox
real = jail.sandbox.spawn_init
def changed(*args, **kwargs):
    exec(change, {"os": os, "place": place})
    return real(*args, **kwargs)
jail.sandbox.spawn_init = changed
try: answer = attempt(act, *args, **fields)
finally: jail.sandbox.spawn_init = real
"""
CHANGES = {
    "to_link": "os.rename(place + '/workspace/d', place + '/workspace/was'); os.symlink(place + '/outside', place + '/workspace/d')",
    "parent_to_link": "os.rename(place + '/workspace', place + '/was'); os.symlink(place + '/outside', place + '/workspace'); os.makedirs(place + '/outside/d'); os.rename(place + '/outside/secret', place + '/outside/d/f')",
    "to_file": "os.rename(place + '/workspace/d', place + '/workspace/was'); open(place + '/workspace/d', 'w').close()",
    "gone": "os.rename(place + '/workspace/d', place + '/workspace/was')",
}
READS = "print(open(sys.argv[1] + '/outside/secret').read() if os.path.exists(sys.argv[1] + '/outside/secret') else open(sys.argv[1] + '/workspace/d/f').read())"


@pytest.mark.parametrize("access", ["read", "write"])
@pytest.mark.parametrize("change", CHANGES)
def test_changed_after_it_was_resolved(change, access, tier, place):
    """
    What has become a link since the policy was resolved is not followed, in a tree of one's own or by Landlock.
    """
    directory = str(place / "workspace" / "d")
    verdict, text = tier.ask(
        AT_STEP,
        change=CHANGES[change],
        place=str(place),
        act=READS,
        args=[str(place)],
        fields={access: [directory]},
    )

    assert "outside" not in text or verdict != "done"
    if change.endswith("link"):
        assert "SetupError" == verdict
    else:
        assert verdict in ("SetupError", "ENOENT", "ENOTDIR", "EACCES")


def test_unchanged(tier, place):
    """
    The control: with nothing changed at that step the directory is shown.
    """
    fields = {"read": [str(place / "workspace" / "d")]}
    answer = tier.ask(
        AT_STEP,
        change="",
        place=str(place),
        act="print(open(sys.argv[1] + '/workspace/d/f').read())",
        args=[str(place)],
        fields=fields,
    )

    assert ["done", "workspace/d/f\n"] == answer


@pytest.mark.parametrize("rule", ["deny", "read"])
def test_protected_path_changed_after_it_was_resolved(rule, tier, place):
    """
    Nor is a protection laid over a decoy, when the path to the protected file has become a link.
    """
    fields = {
        "workspace": str(place / "workspace"),
        "workspace_access": "write",
        rule: [str(place / "workspace/d/e/f")],
    }
    change = "os.rename(place + '/workspace/d', place + '/workspace/was'); os.symlink('was', place + '/workspace/d')"
    answer = tier.ask(
        AT_STEP,
        change=change,
        place=str(place),
        act="open(sys.argv[1] + '/workspace/was/e/f', 'a')",
        args=[str(place)],
        fields=fields,
    )

    assert ("UnsupportedError" if tier.tier == "Landlock" else "SetupError") == answer[0]


def test_failed_set_up_says_what_failed(tier, place):
    """
    A set-up that fails says so with the op and its errno, also when a program was asked for meanwhile.
    """
    repeat = """
import os
def verdicts():
    seen = set()
    for _ in range(20):
        seen.add(attempt("pass", **fields)[0])
        os.unlink(place + "/workspace/d")
        os.rename(place + "/workspace/was", place + "/workspace/d")
    return sorted(seen)
"""
    source = repeat + AT_STEP.replace("answer = attempt(act, *args, **fields)", "answer = verdicts()")
    fields = {"read": [str(place / "workspace" / "d")]}
    seen = tier.ask(source, change=CHANGES["to_link"], place=str(place), fields=fields)

    assert ["SetupError"] == seen


def test_many_threads_at_once(tier):
    """
    Sandboxes that start and end at the same time, in threads and in processes, do not take from each other.
    """
    source = """
import collections, threading
found = collections.Counter()
def go():
    for _ in range(25):
        try: found[attempt("open(os.environ['TMPDIR'] + '/x', 'w').close()")[0]] += 1
        except BaseException as exc: found[type(exc).__name__] += 1
threads = [threading.Thread(target=go) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
answer = dict(found)
"""
    assert {"done": 200} == tier.ask(source)
