"""
The public door: a live sandbox, and one run in one of its own.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, overload

from .command import Command, Exec, ExecFields, StreamFields
from .denial import Ask
from .files import Files
from .inbound import entrance
from .loop import Loop
from .policy import Policy, PolicyFields
from .process import Process
from .program import Box
from .result import Output, Result, Text
from .session import Session, patience_seconds

if TYPE_CHECKING:
    from .dial import LookUp

__all__ = ["RunFields", "Sandbox", "make_session", "run"]


class Sandbox(Box[Process], Files):
    r"""
    One sandbox, from its making to its end.

    A context manager. What runs inside ends with it; so does everything when the harness dies, however it
    dies. May be used from any thread, and by several at once.

    The constructor starts to build it and does not wait: ``with`` does, or the first `run`. A set-up that
    fails is raised there.

    Args:
        policy: a `Policy`, or the name or path of a profile.
        name: by which ``jail ps``, ``inspect``, ``kill`` and ``exec`` of the same user find it, while it lives.
        resolver: who is asked for the addresses of a name that `network` allows, when a program connects to it: a
            function of the name, which may block, and raises OSError where there are none. None for the host's own.
        ask: who is asked, while a program waits, whether it may reach what no rule of `network` and `deny_network` is
            about: a function of a `Question`, called in a thread, which gives True for yes, from now on; False for
            no, and do not ask again; None for not this time. None for nobody.
        peers: names that `network` allows -> other sandboxes of this process, to whose loopback they lead: of the
            ports that the rule has, and of no other. A peer that has ended resets.
        fields: fields of `Policy` in addition: lists are appended to the profile's, the rest replaces.

    Raises:
        PolicyError: the policy makes no sense, or names a path that is missing.
        UnsupportedError: this host cannot keep a guarantee that was not waived.
        SetupError: a system call failed while the sandbox was being built.

    >>> with Sandbox("compute") as box:  # doctest: +SKIP
    ...     box.run(["python3", "-c", "print(6 * 7)"]).stdout
    b'42\n'
    """

    def __init__(
        self,
        policy: Policy | str | os.PathLike[str] = "default",
        *,
        name: str | None = None,
        resolver: LookUp | None = None,
        ask: Ask | None = None,
        peers: Mapping[str, Box[Any]] | None = None,
        **fields: Unpack[PolicyFields],
    ) -> None:
        super().__init__(make_session(policy, fields, name, resolver, ask, peers))

    @overload
    def run(
        self, cmd: Command, *, text: Literal[True], check: bool = ..., **fields: Unpack[ExecFields]
    ) -> Result[Text]: ...
    @overload
    def run(
        self, cmd: Command, *, text: Literal[False] = ..., check: bool = ..., **fields: Unpack[ExecFields]
    ) -> Result[Output]: ...
    def run(
        self, cmd: Command, *, text: bool = False, check: bool = False, **fields: Unpack[ExecFields]
    ) -> Result[Any]:
        """
        Run one program to its end.

        Args:
            cmd: the program and its arguments; a string is a program's name, or with ``shell=True`` a line for
                ``/bin/sh``.
            text: give the output as text instead of bytes.
            check: raise `ProgramError` unless it exits with 0.
            fields: `ExecFields`: ``input``, ``timeout``, ``cwd``, ``env``, ``stdin``, ``stdout``, ``stderr``, ...

        Returns:
            How it ended, what it wrote and what it cost. Whatever the program did is no exception.

        Raises:
            SetupError: it could not be started: `errno` is ENOENT when there is no such program inside.
            PolicyError: an argument cannot be passed on, or asks for more than the sandbox has.
            ProgramError: with `check` only.
            JailError: the sandbox is closed, or was killed from outside.
        """
        result = _run(self._session, self._session.prepare(cmd, fields, text=text))
        return result.check() if check else result

    def popen(self, cmd: Command, *, text: bool = False, **fields: Unpack[ExecFields]) -> Process:
        """
        Start one program, and let it run.

        Args:
            cmd: as for `run`.
            text: as for `run`.
            fields: as for `run`. ``PIPE`` gives a stream to the `Process`.

        Returns:
            The process. It goes on when nobody holds that; it ends with the sandbox.

        Raises:
            SetupError, PolicyError, JailError: as `run`.
        """
        exchange = self._session.open(self._session.prepare(cmd, fields, text=text, background=True))
        loop = Loop()
        exchange.attach(loop)
        try:
            loop.run_until(lambda: exchange.execution.is_started or exchange.is_over)
        except BaseException as exc:
            exchange.fail(exc)
            exchange.abandon()
            raise
        exchange.detach()
        if exchange.error is not None:
            exchange.abandon()
            raise exchange.error
        process = Process(self._session, exchange)
        self._processes[process.id] = process
        return process

    def connect(self, port: int, *, host: str = "127.0.0.1", timeout: float | None = None) -> socket.socket:
        """
        A TCP connection to a server inside, whatever `publish` says.

        Args:
            port: that it listens on.
            host: an address inside.
            timeout: seconds to wait for it, and then the socket's own; None for ever.

        Returns:
            The socket, which the caller closes.

        Raises:
            ConnectionRefusedError, TimeoutError, OSError: as connect(2) has them.
            PolicyError: no server can be there.
            UnsupportedError: the sandbox has no network of its own.
            SetupError, JailError: no socket could be made inside; it is closed, or was killed from outside.
        """
        family = entrance(self.policy, self.plan, port, host)
        sock = self._session.make_socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout)
            sock.connect((host, port))
        except BaseException:
            sock.close()
            raise
        return sock

    def close(self) -> None:
        """
        End everything inside and wait until it is gone. May be called again.
        """
        self._session.close()
        for process in self._processes.values():
            process.settle()
        self._processes.clear()

    def __enter__(self) -> Self:
        try:
            self._session.init.await_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def make_session(
    policy: Policy | str | os.PathLike[str],
    fields: Mapping[str, Any],
    name: str | None,
    resolver: LookUp | None = None,
    ask: Ask | None = None,
    peers: Mapping[str, Box[Any]] | None = None,
) -> Session:
    """
    A session, with a name if it is to have one.
    """
    others = {name: box._session for name, box in peers.items()} if peers else None  # noqa: SLF001 - they are ours
    session = Session(policy, fields, resolver, ask, others)
    if name is not None:
        from .remote import register  # noqa: PLC0415 - most sandboxes have no name

        try:
            register(session, name)
        except BaseException:
            session.close()
            raise
    return session


def _run(session: Session, what: Exec) -> Result[Any]:
    exchange = session.open(what)
    loop = Loop()
    patience = patience_seconds(what)
    deadline = None if patience is None else time.monotonic() + patience
    exchange.attach(loop)
    try:
        in_time = loop.run_until(lambda: exchange.is_over, deadline)
    except BaseException as exc:
        exchange.fail(exc)
        raise
    if not in_time:
        session.give_up(exchange)
    return session.result_of(exchange)


class RunFields(PolicyFields, StreamFields, total=False):
    """
    The keywords of `run`: those of `Policy`, for its sandbox, and those of `StreamFields`, for its program.
    """


@overload
def run(
    cmd: Command,
    *,
    profile: str | os.PathLike[str] = ...,
    policy: Policy | None = ...,
    name: str | None = ...,
    resolver: LookUp | None = ...,
    ask: Ask | None = ...,
    text: Literal[True],
    check: bool = ...,
    **fields: Unpack[RunFields],
) -> Result[Text]: ...
@overload
def run(
    cmd: Command,
    *,
    profile: str | os.PathLike[str] = ...,
    policy: Policy | None = ...,
    name: str | None = ...,
    resolver: LookUp | None = ...,
    ask: Ask | None = ...,
    text: Literal[False] = ...,
    check: bool = ...,
    **fields: Unpack[RunFields],
) -> Result[Output]: ...
def run(
    cmd: Command,
    *,
    profile: str | os.PathLike[str] = "default",
    policy: Policy | None = None,
    name: str | None = None,
    resolver: LookUp | None = None,
    ask: Ask | None = None,
    text: bool = False,
    check: bool = False,
    **fields: Unpack[RunFields],
) -> Result[Any]:
    r"""
    Run one program in a sandbox of its own.

    Args:
        cmd: the program and its arguments, as for `Sandbox.run`.
        profile: name of a built-in profile, or path of a TOML file.
        policy: a policy to use instead of a profile.
        name: as for `Sandbox`.
        resolver: as for `Sandbox`.
        ask: as for `Sandbox`.
        text: give the output as text instead of bytes.
        check: raise `ProgramError` unless it exits with 0.
        fields: fields of `Policy` in addition: ``workspace="."``, ``memory="512M"``, ``timeout=60``, ...; and
            `StreamFields`: ``input``, ``stdin``, ``stdout``, ``stderr``, ``cwd``, ``shell``, ...

    Returns:
        How it ended, what it wrote, what it cost, and what was enforced.

    Raises:
        PolicyError, UnsupportedError, SetupError, ProgramError: as for `Sandbox` and `Sandbox.run`.

    >>> run(["echo", "hello"]).stdout  # doctest: +SKIP
    b'hello\n'
    """
    given: dict[str, Any] = dict(fields)
    streams: Any = {key: given.pop(key) for key in StreamFields.__annotations__ if key in given}
    session = make_session(policy if policy is not None else profile, given, name, resolver, ask)
    try:
        result = _run(session, session.prepare(cmd, streams, text=text, last=True))
    finally:
        session.close()
    return result.check() if check else result
