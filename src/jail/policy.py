"""
What is wanted: a `Policy`, made of keywords or of the fields of a TOML document.

Pure: nothing here reads a file, the environment, a clock or the kernel. A policy may therefore name
paths that do not exist and system calls that nobody knows; what it says is only judged for making
sense. Reading documents is the work of ``profile.py``, which also provides ``Policy.load`` and
``Policy.from_toml``.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, TypedDict, Unpack

from .errors import PolicyError
from .fields import (
    BYTES,
    ITEMS,
    OPPOSITES,
    PATHS,
    SCALARS,
    SECONDS,
    PolicyPath,
    did_you_mean,
    identity,
    parse_env,
    parse_env_name,
    parse_env_value,
    parse_list,
)
from .publish import Published, refuse_ambiguous
from .rule import Rule, listened_ports, parse_rule, refuse_place_of_proxy
from .units import render_bytes, render_seconds, render_value

__all__ = ["Policy", "PolicyFields", "PolicyPath", "parse_fields"]

# Where a key (None), a list item (its index) or an entry of a table (its name) was written, as
# "file:line"; or None.
Locate = Callable[[str, "int | str | None"], "str | None"]


class SupportsFspath(Protocol):
    """``os.PathLike[str]`` by its shape: this module does not import ``os``."""

    def __fspath__(self) -> str: ...


class PolicyFields(TypedDict, total=False):
    """
    The keywords of `Policy`, `Policy.replace` and `Policy.extend`, with the types they take;
    `Policy` says what they mean.
    """

    description: str
    read: Sequence[str | SupportsFspath | PolicyPath | Mapping[str, object]]
    write: Sequence[str | SupportsFspath | PolicyPath | Mapping[str, object]]
    deny: Sequence[str | SupportsFspath | PolicyPath | Mapping[str, object]]
    sockets: Sequence[str | SupportsFspath | PolicyPath | Mapping[str, object]]
    privileged_sockets: Sequence[str | SupportsFspath | PolicyPath | Mapping[str, object]]
    interpreter: bool
    workspace: str | SupportsFspath | None
    workspace_access: Literal["read", "write"]
    network: Literal["none", "host"] | Sequence[str | Rule]
    deny_network: Sequence[str | Rule]
    network_connections: int | None
    network_idle: float | str | None
    network_bytes: int | str | None
    publish: Sequence[int | str | Published]
    network_proxy: str | None
    proxy_variables: bool
    env: Mapping[str, str | SupportsFspath] | Sequence[tuple[str, str]]
    pass_env: Sequence[str]
    hostname: str
    uid: int | None
    gid: int | None
    memory: int | str | None
    cpus: float | str | None
    cpu_seconds: float | str | None
    processes: int | None
    open_files: int | None
    file_size: int | str | None
    disk: int | str | None
    inodes: int | None
    output: int | str | None
    core: int | str
    io: int | str | None
    timeout: float | str | None
    grace: float | str
    wall: float | str | None
    idle: float | str | None
    strict: bool
    cgroup: str | SupportsFspath
    allow_syscalls: Sequence[str]
    deny_syscalls: Sequence[str]
    waive: Sequence[str]


class _Load(Protocol):
    def __call__(self, profile: str | SupportsFspath) -> Policy: ...


class _FromToml(Protocol):
    def __call__(self, text: str, *, source: str = "<string>") -> Policy: ...


@dataclasses.dataclass(frozen=True, slots=True, init=False)
class Policy:
    """
    What must hold while a program runs. Frozen and hashable; equal when every field is equal.

    Lists take lists and tuples, paths take ``os.PathLike``, sizes take text; the field then holds
    the type shown here. Of two rules about nested paths the more specific one wins; in one list or
    another, the order of rules means nothing.

    Args:
        description: one line about what the policy is for.
        read: host files and directories visible read-only, at the same path inside. `PolicyPath`,
            text, or a mapping with ``path`` and ``optional``.
        write: the same, visible and writable.
        deny: hidden although a path above it is visible. It may be missing; that is never an error.
        sockets: unix sockets of the host's that can be connected to, each at its own path, and nothing beside it.
            Those of Docker, D-Bus, systemd and their like are refused; `POWERS` in sockets.py is the list.
        privileged_sockets: the same, without that refusal: who connects may well have the whole host.
        interpreter: show the running Python's own prefixes read-only.
        workspace: a directory shown at its own path, which is also the working directory.
        workspace_access: "read" or "write".
        network: "none"; "host" for the host's own; or a list of all that may be reached: "pypi.org",
            "*.github.com:443", "10.1.2.0/24:5432", "localhost:5432", "*" (`rule.py` has the grammar).
            An empty list lets nothing out; unlike "none", it tells what was refused, and can be added to later.
        deny_network: what may not, although a rule of `network` covers it. Without a port: on none.
        network_connections: that a list of `network` lets be open at once; 1024 by default, or an eighth of the
            harness's open files.
        network_idle: time after which one that moves nothing is cut; 15 minutes by default. Unit: seconds.
        network_bytes: sent and received, together, after which all are cut. Unit: bytes.
        publish: ports inside that the host's loopback leads to: 8080, "9000:8080", "0:8080" for a free port,
            "[::1]:9000:8080" (`publish.py` has the grammar). The three limits above hold for that too.
        network_proxy: through which a list of `network` is reached, loopback excepted: "http://host:port", which is
            asked by CONNECT; "socks5://host:port"; or "environment" for HTTPS_PROXY, ALL_PROXY and NO_PROXY of the
            harness, where alone a user and a password may stand. The proxy looks names up, and judges what they
            resolve to: `deny_network` is then about names, and about addresses that programs name.
        proxy_variables: set HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, in both cases, to a proxy of the sandbox's
            own, by which all that `network` lists is reached, too. Where there are no namespaces it is what a list
            needs for names.
        env: variables set inside, by name. They win over `pass_env`. Kept sorted.
        pass_env: names of variables copied from the caller, where the caller has them.
        hostname: the host name inside, RFC 1123, at most 64 bytes.
        uid: user id seen inside. None: the caller's own, or 1000 when the caller is root.
        gid: group id seen inside, likewise.
        memory: memory of all programs inside together; without swap. Unit: bytes.
        cpus: processors that all of them together may use, on average: 1.5 is one and a half.
        cpu_seconds: processor time of one program and all that it starts. Unit: seconds.
        processes: processes and threads inside, together.
        open_files: open file descriptors of one process.
        file_size: size of the largest file that may be written. Unit: bytes.
        disk: size of what is the sandbox's own: /tmp, /var/tmp, /dev/shm and the home, together; 1 GiB by
            default. What it may write of the host's files is not in it. Unit: bytes.
        inodes: number of files in there; one for each 16 KiB of `disk` by default.
        output: what one program may write to standard output and error, together, before it is ended. Unit:
            bytes. What is kept of it is `output_limit`'s to say.
        core: size of the largest core dump. Unit: bytes.
        io: to and from each disk that it writes to, in each direction. Unit: bytes per second.
        timeout: wall-clock time of one program, until it and its descendants get SIGTERM. Unit: seconds.
        grace: time from there until SIGKILL. Unit: seconds.
        wall: wall-clock time of the sandbox: what runs then is timed out, and it ends. Unit: seconds.
        idle: time with no program running after which it ends. Unit: seconds.
        strict: where the kernel could keep a limit (memory, cpus, processes, io) nobody else will do.
        cgroup: where to make cgroups: "auto", a place that this process may use as it is, if there is one;
            "none"; "own", its own cgroup, from which it is moved to a leaf for that; "systemd", a scope
            that the user's service manager is asked for, to which it is moved; or a directory.
        allow_syscalls: kernel names of system calls to allow beside the built-in filter.
        deny_syscalls: kernel names of system calls to deny beside it.
        waive: names of guarantees that the caller goes on without where the host cannot keep them;
            see `GUARANTEES` in guarantee.py.

    Raises:
        PolicyError: an unknown key, a value of another type or meaning, or one path (or system
            call) under two verdicts.
    """

    description: str = ""
    read: tuple[PolicyPath, ...] = ()
    write: tuple[PolicyPath, ...] = ()
    deny: tuple[PolicyPath, ...] = ()
    sockets: tuple[PolicyPath, ...] = ()
    privileged_sockets: tuple[PolicyPath, ...] = ()
    interpreter: bool = True
    workspace: str | None = None
    workspace_access: Literal["read", "write"] = "read"
    network: Literal["none", "host"] | tuple[Rule, ...] = "none"
    deny_network: tuple[Rule, ...] = ()
    network_connections: int | None = None
    network_idle: float | None = None
    network_bytes: int | None = None
    publish: tuple[Published, ...] = ()
    network_proxy: str | None = None
    proxy_variables: bool = False
    env: tuple[tuple[str, str], ...] = ()
    pass_env: tuple[str, ...] = ()
    hostname: str = "jail"
    uid: int | None = None
    gid: int | None = None
    memory: int | None = None
    cpus: float | None = None
    cpu_seconds: float | None = None
    processes: int | None = None
    open_files: int | None = None
    file_size: int | None = None
    disk: int | None = None
    inodes: int | None = None
    output: int | None = None
    core: int = 0
    io: int | None = None
    timeout: float | None = None
    grace: float = 2.0
    wall: float | None = None
    idle: float | None = None
    strict: bool = False
    cgroup: str = "auto"
    allow_syscalls: tuple[str, ...] = ()
    deny_syscalls: tuple[str, ...] = ()
    waive: tuple[str, ...] = ()

    # Set by profile.py, because they read files: load_policy and parse_policy there.
    load: ClassVar[_Load]
    from_toml: ClassVar[_FromToml]

    def __init__(self, **fields: Unpack[PolicyFields]) -> None:
        _fill(self, {**_DEFAULTS, **parse_fields(fields)})

    def replace(self, **changes: Unpack[PolicyFields]) -> Policy:
        """
        The same policy with these fields instead of its own, validated again. Lists are replaced
        whole; see `extend`.
        """
        return Policy(**{**_fields_of(self), **parse_fields(changes)})

    def extend(self, **fields: Unpack[PolicyFields]) -> Policy:
        """
        The policy of a document that says ``extends`` and these fields: lists append, `env` merges,
        scalars replace.

        What is said later stands: a path or system call named here leaves every other list it was
        in, so that a child can write what its parent reads, hide it, or show again what its parent
        hides. Named twice in one list, it keeps its first place and takes the later ``optional``.
        A list of `network` appends to a list; after "none" or "host" it begins anew, and one that is empty
        allows nothing.
        """
        added = parse_fields(fields)
        merged = _fields_of(self)
        for key, rival in _rivals():
            if key in added:
                named = {identity(item) for item in added[key]}
                merged[rival] = tuple(item for item in merged[rival] if identity(item) not in named)
        for key, value in added.items():
            adds = key == "network" and value and isinstance(value, tuple) and isinstance(merged[key], tuple)
            if key in ITEMS or adds:
                merged[key] = _distinct((*merged[key], *value))
            else:
                merged[key] = tuple(sorted(dict((*merged[key], *value)).items())) if key == "env" else value
        return _fill(object.__new__(Policy), merged)

    def to_toml(self) -> str:
        """
        A TOML document of every field that is not at its default. `Policy.from_toml` gives it back.

        Raises:
            PolicyError: a path or variable is not valid UTF-8 (it holds surrogate escapes), which
                TOML cannot say.
        """
        fields = _fields_of(self)
        env = fields.pop("env")
        changed = {key: fields[key] for key in fields if fields[key] != _DEFAULTS[key]}
        lines = [f"{key} = {_RENDER.get(key, _render_toml)(changed[key])}" for key in changed]
        lines += ["", "[env]"] if env else []  # last: what follows a header is in its table
        lines += [f"{_render_toml(name)} = {_render_toml(text)}" for name, text in env]
        text = "".join(f"{line}\n" for line in lines)
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            msg = "a path or variable is not valid UTF-8, which TOML cannot hold"
            raise PolicyError(msg)
        return text


def parse_fields(
    fields: Mapping[str, Any], *, base: str | None = None, locate: Locate = lambda _key, _item: None
) -> dict[str, Any]:
    """
    The values that these fields of one document, or one call, have in a `Policy`. Only the keys
    that were given.

    Args:
        fields: key -> value, of any type.
        base: absolute directory that relative paths start from; None for the caller's working
            directory.
        locate: where a key or item was written, for errors.

    Raises:
        PolicyError: see `Policy`. It names the key, and the place where `locate` knows it.
    """
    parsed: dict[str, Any] = {key: _parse_field(key, value, locate) for key, value in fields.items()}
    if base is not None:
        _start_paths_from(base, parsed)
    for key, rival in _rivals():
        _refuse_two_verdicts(parsed, key, rival, locate)
    for key in ITEMS.keys() & parsed.keys():
        parsed[key] = _distinct(parsed[key])
    return parsed


def _parse_field(key: str, value: object, locate: Locate) -> object:
    """
    One field's value through its row of the table.
    """
    if key == "network" and isinstance(value, (list, tuple)):
        rules = (_blamed(parse_rule, item, key, index, locate) for index, item in enumerate(value))
        return tuple(dict.fromkeys(rules))
    if key in SCALARS:
        return _blamed(SCALARS[key], value, key, None, locate)
    if key in ITEMS:
        items = _blamed(parse_list, value, key, None, locate)
        return tuple(_blamed(ITEMS[key], item, key, index, locate) for index, item in enumerate(items))
    if key == "env":
        return _parse_env(value, locate)
    known = [*SCALARS, *ITEMS, "env"]
    msg = f"unknown key.{did_you_mean(key, known) or ' Known: ' + ', '.join(sorted(known)) + '.'}"
    raise PolicyError(msg, key=_shown(key), source=locate(key, None))


def _parse_env(value: object, locate: Locate) -> tuple[tuple[str, str], ...]:
    """
    Variables, sorted by name: the order of a mapping says nothing, and the same mapping is the same policy.
    """
    variables = {}
    for name, text in _blamed(parse_env, value, "env", None, locate).items():
        entry = name if isinstance(name, str) else None
        _blamed(parse_env_name, name, "env", entry, locate)
        variables[name] = _blamed(parse_env_value, text, "env", entry, locate)
    return tuple(sorted(variables.items()))


def _blamed(
    parse: Callable[[Any], Any], value: object, key: str, item: int | str | None, locate: Locate
) -> Any:  # noqa: ANN401 - what the parser gives
    """
    What the parser gives; or its error, with the key and the place added.
    """
    try:
        return parse(value)
    except PolicyError as exc:
        shown = f"{key}.{_shown(item)}" if isinstance(item, str) else key
        raise PolicyError(str(exc), key=shown, source=locate(key, item)) from None


def _shown(key: str) -> str:
    return key if key.isprintable() and len(key) <= 64 else render_value(key)


def _start_paths_from(base: str, parsed: dict[str, Any]) -> None:
    """
    Give the relative paths among parsed fields the directory they start from. The workspace is
    text, and joined to it.
    """
    for key in PATHS & parsed.keys():
        parsed[key] = tuple(dataclasses.replace(path, base=path.base or base) for path in parsed[key])
    workspace = parsed.get("workspace")
    if workspace and not workspace.startswith(("/", "~")):
        parsed["workspace"] = f"{base.rstrip('/')}/{workspace}"


def _rivals() -> Iterator[tuple[str, str]]:
    """
    Every ordered pair of lists that give opposite verdicts.
    """
    return itertools.chain.from_iterable(itertools.permutations(keys, 2) for keys in OPPOSITES)


def _refuse_two_verdicts(parsed: Mapping[str, Any], key: str, rival: str, locate: Locate) -> None:
    """
    Raise where one path or name is in both lists: neither rule is more specific than the other.
    """
    rivals = {identity(item): index for index, item in enumerate(parsed.get(rival, ()))}
    for index, item in enumerate(parsed.get(key, ())):
        if identity(item) in rivals:
            place = locate(rival, rivals[identity(item)])
            also = f"{rival} too ({place})" if place else f"{rival} too"
            msg = f"{render_value(identity(item))} is in {also}; keep it in one of them"
            raise PolicyError(msg, key=key, source=locate(key, index))


def _distinct(items: Iterable[Any]) -> tuple[Any, ...]:
    """
    Each item once: at the place of its first mention, as it was mentioned last.
    """
    return tuple({identity(item): item for item in items}.values())


def _fill(policy: Policy, parsed: Mapping[str, Any]) -> Policy:
    """
    Set every field of a frozen policy that is being made, to values that are parsed already.

    Raises:
        PolicyError: two of them make no sense together.
    """
    if isinstance(parsed["network"], tuple):
        listened_ports(parsed["network"], has_proxy=parsed["proxy_variables"])
        if parsed["proxy_variables"]:
            refuse_place_of_proxy(parsed["network"])
        if parsed["network_proxy"] and any(rule.protocol == "udp" for rule in parsed["network"]):
            raise PolicyError(
                "a rule for UDP, which no proxy carries; take it or network_proxy out", key="network"
            )
    elif parsed["network"] == "host":
        for key in ("deny_network", "network_connections", "network_idle", "network_bytes", "network_proxy"):
            if parsed[key] not in ((), None):
                msg = "nothing can be taken from the host's own network; list what may be reached in network"
                raise PolicyError(msg, key=key)
    if parsed["proxy_variables"] and isinstance(parsed["network"], str):
        msg = f'the proxy leads to what a list allows, and network is "{parsed["network"]}": network = ["pypi.org"]'
        raise PolicyError(msg, key="proxy_variables")
    refuse_ambiguous(parsed["publish"], parsed["network"], has_proxy=parsed["proxy_variables"])
    for key, value in parsed.items():
        object.__setattr__(policy, key, value)
    return policy


def _fields_of(policy: Policy) -> dict[str, Any]:
    return {key: getattr(policy, key) for key in _DEFAULTS}


_DEFAULTS: Mapping[str, Any] = {field.name: field.default for field in dataclasses.fields(Policy)}

# TOML 1.0, "String": what a basic string must escape.
_ESCAPES = {code: f"\\u{code:04x}" for code in (*range(32), 127)} | {
    ord('"'): '\\"',
    ord("\\"): "\\\\",
}


def _render_toml(value: object) -> str:
    """
    A field's value as TOML.
    """
    if isinstance(value, str):
        return f'"{value.translate(_ESCAPES)}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "[\n" + "".join(f"    {_render_toml(item)},\n" for item in value) + "]"
    if isinstance(value, (Rule, Published)):
        return _render_toml(str(value))
    if isinstance(value, PolicyPath):
        path = _render_toml(value.path)
        rest = ", optional = true" if value.optional else ""
        rest += f", base = {_render_toml(value.base)}" if value.base else ""
        return f"{{path = {path}{rest}}}" if rest else path
    return str(value)


_RENDER: Mapping[str, Callable[[Any], str]] = {
    **dict.fromkeys(BYTES, lambda count: f'"{render_bytes(count)}"'),
    **dict.fromkeys(SECONDS, lambda seconds: f'"{render_seconds(seconds)}"'),
}
