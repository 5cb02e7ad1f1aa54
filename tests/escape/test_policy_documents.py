"""
What a policy's text can do to the harness that reads it: it is refused, as a PolicyError, and soon.
"""

import os
import threading
import time

import pytest

import jail

SECONDS = 1.0

NESTED = {
    "lists": lambda n: f"read = {'[' * n}{']' * n}",
    "open_lists": lambda n: f"read = {'[' * n}",
    "tables": lambda n: f"env = {'{a = ' * n}1{'}' * n}",
    "headers": lambda n: f"[{'a.' * n}a]",
    "keys": lambda n: f"{'a.' * n}a = 1",
    "dotted_in_many_tables": lambda n: "".join(f"[a{i}.b.c]\nd.e.f = 1\n" for i in range(n // 20)),
    "arrays_of_tables": lambda n: "[[read]]\npath = '/usr'\n[[read.x]]\n" * (n // 40),
}
LONG = {
    "comment": lambda n: "#" + "x" * n,
    "string": lambda n: f"hostname = '{'x' * n}'",
    "multiline": lambda n: "description = '''" + "\n" * n + "'''",
    "quotes": lambda n: 'description = "' + '\\"' * (n // 2),
    "half_quotes": lambda n: 'description = """' + '""\\' * (n // 3),
    "integer": lambda n: "processes = " + "9" * n,
    "float": lambda n: "timeout = 1." + "9" * n,
    "exponent": lambda n: "timeout = 1e" + "9" * n,
    "hex": lambda n: "processes = 0x" + "f" * n,
    "date": lambda n: "timeout = 1979-05-27T07:32:00." + "9" * n,
    "size": lambda n: f"memory = '{'9' * n}G'",
    "key": lambda n: "k" * n + " = 1",
    "escapes": lambda n: 'description = "' + "\\u0041" * (n // 6) + '"',
    "items": lambda n: "deny = [" + "'/x'," * (n // 5) + "]",
    "items_on_lines": lambda n: "deny = [" + "\n'/x'," * (n // 6) + "]",
    "keys": lambda n: "".join(f"k{i} = 1\n" for i in range(n // 10)),
    "blank": lambda n: "\n" * n,
    "spaces": lambda n: "hostname =" + " " * n + "'x'",
    "garbage": lambda n: "=" * n,
    "commas": lambda n: "read = [" + "," * n + "]",
    "brackets": lambda n: "]" * n,
}


def refused(read):
    """
    The PolicyError, which came in time.
    """
    started = time.monotonic()
    with pytest.raises(jail.PolicyError) as caught:
        read()
    assert time.monotonic() - started < SECONDS
    assert len(str(caught.value)) < 2000
    return caught.value


@pytest.mark.parametrize("depth", [100, 10_000, 1_000_000])
@pytest.mark.parametrize("kind", NESTED)
def test_nested(kind, depth):
    """
    Whatever can be nested is, as deep as it goes; and a depth that a person might write is read.
    """
    refused(lambda: jail.parse_policy(NESTED[kind](depth)))
    assert ("/usr",) == tuple(path.path for path in jail.parse_policy("read = [{path = '/usr'}]").read)


@pytest.mark.parametrize("size", [100_000, 10_000_000])
@pytest.mark.parametrize("kind", LONG)
def test_long(kind, size):
    """
    So is whatever can be long. What is under the limit and says nothing wrong may be read, as soon.
    """
    text = LONG[kind](size)
    harmless = {"comment", "multiline", "blank", "spaces", "escapes", "items", "items_on_lines"}
    if size < 256 * 1024 and kind in harmless:
        started = time.monotonic()
        jail.parse_policy(text)
        assert time.monotonic() - started < SECONDS
        return

    refused(lambda: jail.parse_policy(text))


WRONG = {
    "nul_in_path": 'read = ["/a\\u0000b"]',
    "nul_itself": "read = ['/a\0b']",
    "nul_in_env": '[env]\nA = "a\\u0000b"',
    "nul_in_env_name": "[env]\n\"A\\u0000\" = 'b'",
    "equals_in_env_name": "[env]\n\"A=B\" = 'b'",
    "empty_env_name": "[env]\n\"\" = 'b'",
    "empty_path": "read = ['']",
    "other_home": "read = ['~root/x']",
    "number_as_path": "read = [1]",
    "list_as_path": "read = [['/usr']]",
    "text_as_list": "read = '/usr'",
    "table_as_list": "read = {path = '/usr'}",
    "date_as_path": "read = [1979-05-27]",
    "boolean_as_number": "processes = true",
    "number_as_boolean": "interpreter = 1",
    "negative": "processes = -1",
    "zero": "processes = 0",
    "infinite": "timeout = inf",
    "not_a_number": "timeout = nan",
    "huge": "memory = 99999999999999999999",
    "unknown_unit": "memory = '5X'",
    "digits_of_another_script": "memory = '\u0665G'",
    "unknown_key": "nettwork = 'none'",
    "unknown_network": "network = 'all'",
    "unknown_guarantee": "waive = ['everything']",
    "unknown_path_key": "read = [{path = '/usr', recursive = true}]",
    "path_without_path": "read = [{optional = true}]",
    "optional_is_text": "read = [{path = '/usr', optional = 'yes'}]",
    "two_verdicts": "read = ['/usr']\nwrite = ['/usr']",
    "two_verdicts_spelled": "read = ['/usr']\ndeny = ['/usr//./']",
    "same_key_twice": "network = 'none'\nnetwork = 'host'",
    "bad_hostname": "hostname = '-a'",
    "hostname_with_newline": 'hostname = "a\\n"',
    "bad_syscall": "allow_syscalls = ['ptrace;']",
    "uid_minus_one": "uid = 4294967295",
    "byte_order_mark": "\ufeffnetwork = 'none'",
    "surrogate": "description = '\ud800'",
    "carriage_return": "network = 'none'\r",
    "control_character": "description = '\x01'",
    "dunder": "__class__ = 'x'",
    "extends_list": "extends = ['default']",
    "extends_nothing": "extends = ''",
    "extends_unknown": "extends = 'no-such-profile'",
    "extends_syscalls": "extends = 'syscalls'",
    "extends_up": "extends = '../../../../../../etc/passwd'",
    "extends_device": "extends = '/dev/zero'",
    "extends_directory": "extends = '/usr/'",
    "extends_nul": "extends = 'a\\u0000.toml'",
    "extends_memory": "extends = '/proc/self/mem'",
    "extends_terminal": "extends = '/dev/tty'",
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong(kind):
    """
    A wrong type, a wrong value, a control character or a strange file: each is a PolicyError, and never another error.
    """
    refused(lambda: jail.parse_policy(WRONG[kind]))


def test_right():
    """
    The control: texts that differ from these by a trifle are policies.
    """
    text = "extends = 'default'\nread = [{path = '/usr', optional = true}]\nmemory = '5G'\ntimeout = '1h'\n[env]\nA = 'b'"

    assert ("b", 5 << 30, 3600.0) == (
        dict(jail.parse_policy(text).env)["A"],
        *((p := jail.parse_policy(text)).memory, p.timeout),
    )


@pytest.mark.parametrize("length", [1, 2, 10, 100])
def test_cycle(length, tmp_path):
    """
    Documents that extend each other in a circle are refused, by however many names their files have.
    """
    for i in range(length):
        (tmp_path / f"p{i}.toml").write_text(f"extends = './p{(i + 1) % length}.toml'\n")
    (tmp_path / "link.toml").symlink_to("p0.toml")

    assert "extends" in str(refused(lambda: jail.load_policy(tmp_path / "link.toml")))
    (tmp_path / f"p{length - 1}.toml").write_text("network = 'none'\n")
    if length <= 10:
        assert "none" == jail.load_policy(tmp_path / "link.toml").network


def test_file_that_never_ends(tmp_path):
    """
    A file may be a FIFO, a socket, a directory, or as long as a disk: reading it ends all the same.
    """
    os.mkfifo(tmp_path / "fifo.toml")
    (tmp_path / "directory.toml").mkdir()
    with open(tmp_path / "sparse.toml", "wb") as file:
        file.truncate(1 << 40)
    (tmp_path / "loop.toml").symlink_to("loop.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe" * 1000)

    for path in sorted(tmp_path.iterdir()):
        refused(lambda path=path: jail.load_policy(path))


def test_file_that_grows(tmp_path):
    """
    Nor does a file that grows while it is read keep the reader.
    """
    path, stop = tmp_path / "growing.toml", threading.Event()
    path.write_text("# ")

    def grow():
        with open(path, "ab", buffering=0) as file:
            while not stop.is_set():
                file.write(b"#" * 65536)
                if file.tell() > 1 << 26:
                    file.truncate(2)

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        started = time.monotonic()
        for _ in range(20):
            try:
                jail.load_policy(path)
            except jail.PolicyError:
                continue
    finally:
        stop.set()
        thread.join()

    assert time.monotonic() - started < 20 * SECONDS


@pytest.mark.parametrize("text", ["secret-token-of-a-file", "password = hunter2"])
def test_error_tells_little_of_a_file(text, tmp_path):
    """
    A document cannot have another file's content told in an error: only the place and what TOML misses there.
    """
    (tmp_path / "secret").write_text(text)

    assert text.split()[-1] not in str(refused(lambda: jail.parse_policy(f"extends = '{tmp_path}/secret'")))


def test_stack_that_is_nearly_used_up():
    """
    A caller deep in recursion gets a policy or a PolicyError, and not a RecursionError in the middle.
    """

    def deep(n):
        if n:
            return deep(n - 1)
        try:
            return jail.parse_policy("read = [[[[['/usr']]]]]")
        except (jail.PolicyError, RecursionError) as exc:
            return exc

    assert isinstance(deep(500), jail.PolicyError)
