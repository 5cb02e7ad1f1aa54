"""
The flow runs one way. "Invariants" in ARCHITECTURE.md.

Read from the sources, so that a module is judged before it is ever run. The checks are functions of a text;
the last tests give them texts that break the rule, and see them object.
"""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYTHON = {path.stem: path.read_text() for path in sorted((ROOT / "src/jail").glob("*.py"))}
C = {path.name: path.read_text() for path in sorted((ROOT / "csrc").glob("*.[ch]"))}

# The stops of the flow, first to last. A module imports from its own stop and from those before it.
STOPS = {
    "words": "errors units guarantee ops host view inert address denial",
    "policy": "rule network proxy publish fields document policy profile",
    "plan": "environment layout netns confine limits tier notify promises plan sockets resolve seccomp tighten",
    "spawn": "wire fault fork liveness delegation systemd scratch spawn notification probe",
    "result": "outcome usage timeline result",
    "process": "capture cgroup command execution streams loop reactor traffic greeting forward resolver pktinfo asker listener nameserver dial handshake tunnel stock inward question sniffer carried connection forwarded door connector inbound datagram allowance handoff gateway broker egress exchange planning calls session reach "
    "program process",
    "sandbox": "registry remote files sandbox",
    "aio": "onloop aio",
    "top": "prompt relay terminal explain doctor stylesheet chart report destination live meter top cli __init__ __main__",
}
STOP_OF = {module: number for number, modules in enumerate(STOPS.values()) for module in modules.split()}
FLOW = ["policy", "plan", "spawn", "process", "sandbox"]

# All that a pure module may import from outside: none of these can touch the machine.
HARMLESS = {
    "__future__", "collections", "dataclasses", "difflib", "enum", "errno", "functools", "idna", "ipaddress",
    "itertools", "json", "math", "re", "string", "struct", "tomllib", "typing",
}  # fmt: skip
MACHINE_CALLS = {"open", "input", "print", "exec", "eval", "compile", "__import__", "breakpoint"}
CORE_USERS = {"spawn", "probe", "traffic"}

FORKS = {"fork", "forkpty", "fork_exec", "posix_spawn", "posix_spawnp", "popen", "system", "startfile"}
FORKERS = {"_posixsubprocess", "concurrent", "multiprocessing", "pty"}

C_HEADERS = {"assert.h", "err.h", "error.h", "locale.h", "stdio.h", "stdlib.h", "syslog.h", "wchar.h"}
# The last is there for linux/if.h, which leaves struct sockaddr to it.
HARNESS_C = {"spawn.c", "traffic.c", "piece.c", "piece.h"}
FREESTANDING = {"limits.h", "stdarg.h", "stdbool.h", "stddef.h", "stdint.h", "sys/socket.h"}
C_CALLS = re.compile(
    r"\b(\w*printf|f?puts|f?putc|putchar|perror|p?error|warnx?|errx?|v?syslog|abort|assert"
    r"|malloc|calloc|realloc|free|strdup|alloca)\s*\("
    r"|\b(?:write|writev|dprintf)\s*\(\s*(?:1|2|STD(?:OUT|ERR)_FILENO)\b"
    r"|\bsys\(\s*writev?\s*,\s*(?:1|2)\b"
)


def is_for_types_only(node):
    """
    An ``if TYPE_CHECKING:`` block, whose imports are never carried out.
    """
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def nodes(tree):
    """
    Every node of a tree that is executed, wherever it stands.
    """
    for child in ast.iter_child_nodes(tree):
        if not is_for_types_only(child):
            yield child
            yield from nodes(child)


def imports(source):
    """
    The modules that a text imports, at once or later; the package's own with a leading dot.
    """
    for node in nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top, _, rest = alias.name.partition(".")
                yield f".{rest.partition('.')[0] or '__init__'}" if top == "jail" else top
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            if module.partition(".")[0] == "jail":
                module = module.removeprefix("jail") or "."
            names = [module] if module != "." else [f".{alias.name}" for alias in node.names]
            yield from (f".{name.split('.')[1]}" if name[0] == "." else name.split(".")[0] for name in names)


def own_imports(source):
    """
    The package's own modules that a text imports, without the C core.
    """
    return {name[1:] for name in imports(source) if name[0] == "."} - {"_core"}


def closure(*modules):
    """
    These modules and all that they bring in.
    """
    found = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += own_imports(PYTHON[module])
    return found


def impurities(source):
    """
    What in a text can touch the machine.
    """
    found = {name for name in imports(source) if name[0] != "."} - HARMLESS
    calls = (node.func for node in nodes(ast.parse(source)) if isinstance(node, ast.Call))
    return found | {call.id for call in calls if isinstance(call, ast.Name)} & MACHINE_CALLS | core(source)


def core(source):
    """
    The C core, if a text imports it.
    """
    return {name[1:] for name in imports(source)} & {"_core"}


def is_of_ours(value):
    """
    Whether an attribute is looked up in a sandbox, whose popen is the library's own.
    """
    return isinstance(value, ast.Name) and value.id == "box"


def forks(source):
    """
    What in a text makes a process by way of fork(2), or has Python run in a child.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and re.fullmatch(r"exec[lv]p?e?|spawn[lv]p?e?", node.attr):
            yield node.attr
        if isinstance(node, ast.Attribute) and node.attr in FORKS and not is_of_ours(node.value):
            yield node.attr
        if isinstance(node, ast.Name) and node.id in FORKS:
            yield node.id
        if isinstance(node, ast.ImportFrom):
            yield from {alias.name for alias in node.names} & FORKS
        if isinstance(node, ast.keyword) and node.arg == "preexec_fn":
            yield node.arg
    yield from set(imports(source)) & FORKERS


def c_code(source):
    """
    C without its comments and the insides of its strings.
    """
    source = re.sub(r"/\*.*?\*/|//[^\n]*", " ", source, flags=re.DOTALL)
    return re.sub(r'(?<!include )"(?:\\.|[^"\\])*"', '""', source)


def c_output(source):
    """
    What in a C text prints, allocates, or brings in a part of the C library that does.
    """
    code = c_code(source)
    headers = set(re.findall(r'#\s*include\s*[<"]([^>"]+)[>"]', code)) & C_HEADERS
    return headers | {match[0].strip() for match in C_CALLS.finditer(code)}


def test_every_module_has_a_stop():
    """
    A new module is given its place in the flow, above, before it is used.
    """
    assert set() == set(PYTHON) - set(STOP_OF)
    assert set() == set(FLOW) - set(PYTHON)


@pytest.mark.parametrize("module", PYTHON)
def test_flow_is_one_way(module):
    """
    Each module imports only from its own stop and those before it.
    """
    assert set() == {name for name in own_imports(PYTHON[module]) if STOP_OF[name] > STOP_OF[module]}


def test_flow_is_policy_plan_spawn_process_sandbox():
    """
    The five stops stand in this order, and a result is made of no process.
    """
    assert FLOW == sorted(FLOW, key=STOP_OF.__getitem__)
    assert STOP_OF["result"] < STOP_OF["process"]


def test_no_circle():
    """
    Over the whole package, no module needs itself; imports within functions count.
    """
    needs = {name: own_imports(source) for name, source in PYTHON.items()}

    assert set(PYTHON) == set(TopologicalSorter(needs).static_order())


@pytest.mark.parametrize("module", sorted(closure("policy", "document", "plan")))
def test_policy_and_plan_touch_nothing(module):
    """
    Neither policy and plan, nor anything they bring in, can touch the machine.
    """
    assert set() == impurities(PYTHON[module])


def test_the_core_has_three_callers():
    """
    Only spawn starts a process with the C core; probe asks it about the kernel, and traffic has it move bytes.
    """
    assert CORE_USERS == {module for module, source in PYTHON.items() if core(source)}


@pytest.mark.parametrize("module", PYTHON)
def test_nothing_forks(module):
    """
    No Python runs between a clone and an exec: nothing forks, and no subprocess has a preexec_fn.
    """
    assert [] == list(forks(PYTHON[module]))


@pytest.mark.parametrize("file", C)
def test_c_prints_nothing(file):
    """
    The C writes to nobody's output and allocates nothing: its words are made in Python.
    """
    assert set() == c_output(C[file])


@pytest.mark.parametrize("file", sorted(set(C) - HARNESS_C))
def test_jail_init_has_no_c_library(file):
    """
    Only the harness's side includes the C library's headers; jail-init has the kernel's and the compiler's.
    """
    included = set(re.findall(r"#\s*include\s*<([^>]+)>", C[file]))

    assert set() == {name for name in included - FREESTANDING if not name.startswith(("asm/", "linux/"))}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import os.path", {"os"}),
        ("def f():\n    from pathlib import Path", {"pathlib"}),
        ("from . import _core", {"_core"}),
        ("open('/etc/passwd')", {"open"}),
        ("if TYPE_CHECKING:\n    import os", set()),
        ("from .policy import Policy\nimport re", set()),
    ],
)
def test_impurities_are_seen(source, expected):
    """
    The check for purity objects to what it should.
    """
    assert expected == impurities(source)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import jail.plan", {"plan"}),
        ("from jail import plan", {"plan"}),
        ("from . import plan, policy", {"plan", "policy"}),
        ("from .plan import Plan", {"plan"}),
        ("from jail.plan import Plan", {"plan"}),
        ("import jailbird", set()),
    ],
)
def test_own_imports_are_seen(source, expected):
    """
    However a module of ours is imported, it is found.
    """
    assert expected == own_imports(source)


def test_circle_is_seen():
    """
    The check for circles objects to one.
    """
    with pytest.raises(CycleError):
        list(TopologicalSorter({"a": {"b"}, "b": {"a"}}).static_order())


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("os.fork()", ["fork"]),
        ("os.popen(a)", ["popen"]),
        ("box.popen(a)", []),
        ("from os import fork", ["fork"]),
        ("subprocess.run(cmd, preexec_fn=f)", ["preexec_fn"]),
        ("import multiprocessing", ["multiprocessing"]),
        ("os.execvp(a, b)", ["execvp"]),
        ("os.register_at_fork(after_in_child=f)", []),
    ],
)
def test_forks_are_seen(source, expected):
    """
    The check for forks objects to what it should.
    """
    assert expected == list(forks(source))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("#include <stdio.h>", {"stdio.h"}),
        ('fprintf(stderr, "x");', {"fprintf("}),
        ('write(2, "x", 1);', {"write(2"}),
        ('sys(write, 2, "x", 1);', {"sys(write, 2"}),
        ("char *p = malloc(1);", {"malloc("}),
        ("/* printf() */ f(); // puts()", set()),
        ("sys(write, fd, text, len);", set()),
    ],
)
def test_c_output_is_seen(source, expected):
    """
    The check for C that prints objects to what it should.
    """
    assert expected == c_output(source)
