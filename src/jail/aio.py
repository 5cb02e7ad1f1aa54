"""
The same for asyncio: what waits is awaited, and everything else is as in `jail`.

Descriptors are on the running loop, so that there is no thread behind a program. A call that is cancelled kills
what it has started, and leaves the sandbox usable. An object belongs to the loop in which it was made.

>>> async def main():  # doctest: +SKIP
...     async with jail.aio.Sandbox("compute") as box:
...         result = await box.run(["python3", "-c", "print(6 * 7)"])
"""

from __future__ import annotations

import asyncio
import builtins
import inspect
import os
import socket
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, cast, overload

from .calls import ANSWER_SECONDS
from .command import Command, Exec, ExecFields, StreamFields
from .denial import Ask, AskLater, Question
from .exchange import Exchange
from .files import ENTRIES, FILE_BYTES, TREE_BYTES, Entry, Files
from .inbound import entrance
from .onloop import OnLoop, Reader, Writer, until_ready
from .policy import Policy, PolicyFields
from .process import expired
from .program import Box, Program
from .result import Output, Result, Text
from .sandbox import RunFields, make_session
from .session import Session, patience_seconds

if TYPE_CHECKING:
    from .dial import LookUp

__all__ = ["Process", "Reader", "Sandbox", "Writer", "run"]


class Process(Program):
    """
    One exec, from its start; made by `Sandbox.popen`. See `jail.Process`, whose names these are.

    Attributes:
        id: its number in the sandbox; `Sandbox.process` finds it by that.
        stdin: a `Writer`, where ``stdin=PIPE``; otherwise None.
        stdout, stderr: a `Reader` where ``PIPE``; ``async for`` gives lines as they come.
    """

    stdin: Writer | None
    stdout: Reader | None
    stderr: Reader | None

    def __init__(self, session: Session, exchange: Exchange) -> None:
        super().__init__(session, exchange)
        decode = exchange.execution.what.decode
        self.stdin = Writer(exchange.streams.stdin, decode) if exchange.streams.stdin >= 0 else None
        if self.stdin:
            self.stdin.is_typed = exchange.execution.what.size is not None
            self._feed = self.stdin
        self.stdout = Reader(exchange.streams.stdout, decode) if exchange.streams.stdout >= 0 else None
        self.stderr = Reader(exchange.streams.stderr, decode) if exchange.streams.stderr >= 0 else None
        self._ended = asyncio.Event()
        exchange.on_end = self._ended.set
        if exchange.is_over:
            self._ended.set()

    async def wait(self, timeout: float | None = None) -> int:
        """
        Wait for its end, for at most `timeout` seconds. See `jail.Process.wait`.
        """
        self._session.refuse_in_child()
        try:
            await asyncio.wait_for(self._ended.wait(), timeout)
        except TimeoutError:
            raise expired(self.args, timeout) from None
        return self._code()

    async def result(self, timeout: float | None = None) -> Result[Any]:
        """
        Wait for its end, and give all that is known of it. See `jail.Process.result`.
        """
        await self.wait(timeout)
        return self._execution.result()

    async def communicate(
        self, input: bytes | str | None = None, timeout: float | None = None
    ) -> tuple[Output | Text, Output | Text]:
        """
        Write the input, read both streams to their ends, and wait. See `jail.Process.communicate`.
        """
        self._adopt(input)
        await self.wait(timeout)
        return self.output()

    def _held(self, stream: Reader) -> bytes:
        return stream.held()

    async def settle(self) -> None:
        """
        Wait until what the end of its sandbox means for it is known here. See `jail.Process.settle`.
        """
        await self._ended.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.kill()
        if self.stdin is not None:
            self.stdin.close()
        await self._ended.wait()
        self.close()


class Sandbox(Box[Process]):
    """
    One sandbox, from its making to its end. See `jail.Sandbox`, whose names these are.

    An async context manager. Making it takes milliseconds of the calling thread.

    Args:
        policy: a `Policy`, or the name or path of a profile.
        name: by which ``jail ps`` and its kin find it.
        resolver: who is asked for names, in a thread; see `jail.Sandbox`.
        ask: who is asked about what no rule is about: a function, in a thread; or a coroutine function, on the running
            loop. See `jail.Sandbox`.
        peers: other sandboxes of this process, of either kind; see `jail.Sandbox`.
        fields: fields of `Policy` in addition.

    Raises:
        PolicyError, UnsupportedError, SetupError: as `jail.Sandbox`.
    """

    def __init__(
        self,
        policy: Policy | str | os.PathLike[str] = "default",
        *,
        name: str | None = None,
        resolver: LookUp | None = None,
        ask: Ask | AskLater | None = None,
        peers: Mapping[str, Box[Any]] | None = None,
        **fields: Unpack[PolicyFields],
    ) -> None:
        super().__init__(make_session(policy, fields, name, resolver, _in_thread(ask), peers))
        self._files = Files(self._session)

    @overload
    async def run(
        self, cmd: Command, *, text: Literal[True], check: bool = ..., **fields: Unpack[ExecFields]
    ) -> Result[Text]: ...
    @overload
    async def run(
        self, cmd: Command, *, text: Literal[False] = ..., check: bool = ..., **fields: Unpack[ExecFields]
    ) -> Result[Output]: ...
    async def run(
        self, cmd: Command, *, text: bool = False, check: bool = False, **fields: Unpack[ExecFields]
    ) -> Result[Any]:
        """
        Run one program to its end; cancelled, kill it. See `jail.Sandbox.run`.
        """
        result = await _run(self._session, self._session.prepare(cmd, fields, text=text))
        return result.check() if check else result

    async def popen(self, cmd: Command, *, text: bool = False, **fields: Unpack[ExecFields]) -> Process:
        """
        Start one program, and let it run. See `jail.Sandbox.popen`.
        """
        exchange = self._session.open(self._session.prepare(cmd, fields, text=text, background=True))
        started = asyncio.Event()
        exchange.on_start = exchange.on_end = started.set
        exchange.attach(OnLoop())
        try:
            await started.wait()
        except BaseException as exc:
            exchange.fail(exc)
            exchange.abandon()
            raise
        if exchange.error is not None:
            exchange.abandon()
            raise exchange.error
        process = Process(self._session, exchange)
        self._processes[process.id] = process
        return process

    # A regular file is no descriptor that a loop can wait for: these are done in asyncio's threads.

    async def read_file(self, path: str | os.PathLike[str], *, limit: int = FILE_BYTES) -> bytes:
        """
        See `jail.Sandbox.read_file`.
        """
        return await asyncio.to_thread(self._files.read_file, path, limit=limit)

    async def write_file(
        self, path: str | os.PathLike[str], data: bytes | str, *, mode: int = 0o644, parents: bool = False
    ) -> None:
        """
        See `jail.Sandbox.write_file`.
        """
        await asyncio.to_thread(self._files.write_file, path, data, mode=mode, parents=parents)

    async def list(self, path: str | os.PathLike[str] = ".", *, limit: int = ENTRIES) -> builtins.list[Entry]:
        """
        See `jail.Sandbox.list`.
        """
        return await asyncio.to_thread(self._files.list, path, limit=limit)

    async def exists(self, path: str | os.PathLike[str]) -> bool:
        """
        See `jail.Sandbox.exists`.
        """
        return await asyncio.to_thread(self._files.exists, path)

    async def make_directory(self, path: str | os.PathLike[str], *, parents: bool = False) -> None:
        """
        See `jail.Sandbox.make_directory`.
        """
        await asyncio.to_thread(self._files.make_directory, path, parents=parents)

    async def remove(self, path: str | os.PathLike[str], *, recursive: bool = False) -> None:
        """
        See `jail.Sandbox.remove`.
        """
        await asyncio.to_thread(self._files.remove, path, recursive=recursive)

    async def upload(self, source: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
        """
        See `jail.Sandbox.upload`.
        """
        await asyncio.to_thread(self._files.upload, source, path)

    async def download(
        self, path: str | os.PathLike[str], target: str | os.PathLike[str], *, limit: int = TREE_BYTES
    ) -> None:
        """
        See `jail.Sandbox.download`.
        """
        await asyncio.to_thread(self._files.download, path, target, limit=limit)

    async def connect(
        self, port: int, *, host: str = "127.0.0.1", timeout: float | None = None
    ) -> socket.socket:
        """
        A TCP connection to a server inside, which does not block: for ``asyncio.open_connection(sock=...)`` and its
        kin. See `jail.Sandbox.connect`.
        """
        family = entrance(self.policy, self.plan, port, host)
        async with asyncio.timeout(timeout):
            sock = await _make_socket(self._session, family)
            try:
                sock.settimeout(0)
                await asyncio.get_running_loop().sock_connect(sock, (host, port))
            except BaseException:
                sock.close()
                raise
        return sock

    async def close(self) -> None:
        """
        End everything inside and wait until it is gone. May be called again.
        """
        await _close(self._session)
        for process in self._processes.values():
            await process.settle()
        self._processes.clear()

    async def __aenter__(self) -> Self:
        init = self._session.init
        try:
            if not init.is_ready:
                await until_ready(init.control.fileno())
            init.await_ready()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _in_thread(ask: Ask | AskLater | None) -> Ask | None:
    """
    A function for a thread, which waits for the loop if it has to.
    """
    if ask is None or not inspect.iscoroutinefunction(ask):
        return cast("Ask | None", ask)
    loop = asyncio.get_running_loop()

    def asked(question: Question) -> bool | None:
        answer: bool | None = asyncio.run_coroutine_threadsafe(ask(question), loop).result()
        return answer

    return asked


async def _close(session: Session) -> None:
    """
    Wait on the loop until nobody is left; what is done after that takes no time.
    """
    if not session.is_closed and session.init.pidfd >= 0:
        session.hang_up()
        await until_ready(session.init.pidfd)
    session.close()


async def _make_socket(session: Session, family: int) -> socket.socket:
    with session.ask_socket(family, socket.SOCK_STREAM) as asked:
        try:
            await asyncio.wait_for(until_ready(asked.socket.fileno()), ANSWER_SECONDS)
        except TimeoutError:
            raise session.unanswered(asked, "socket") from None
        return session.socket_of(asked, family, socket.SOCK_STREAM)


async def _run(session: Session, what: Exec) -> Result[Any]:
    exchange = session.open(what)
    ended = asyncio.Event()
    exchange.on_end = ended.set
    exchange.attach(OnLoop())
    try:
        await asyncio.wait_for(ended.wait(), patience_seconds(what))
    except TimeoutError:
        session.give_up(exchange)
    except BaseException as exc:
        exchange.fail(exc)
        raise
    return session.result_of(exchange)


@overload
async def run(
    cmd: Command,
    *,
    profile: str | os.PathLike[str] = ...,
    policy: Policy | None = ...,
    name: str | None = ...,
    resolver: LookUp | None = ...,
    ask: Ask | AskLater | None = ...,
    text: Literal[True],
    check: bool = ...,
    **fields: Unpack[RunFields],
) -> Result[Text]: ...
@overload
async def run(
    cmd: Command,
    *,
    profile: str | os.PathLike[str] = ...,
    policy: Policy | None = ...,
    name: str | None = ...,
    resolver: LookUp | None = ...,
    ask: Ask | AskLater | None = ...,
    text: Literal[False] = ...,
    check: bool = ...,
    **fields: Unpack[RunFields],
) -> Result[Output]: ...
async def run(
    cmd: Command,
    *,
    profile: str | os.PathLike[str] = "default",
    policy: Policy | None = None,
    name: str | None = None,
    resolver: LookUp | None = None,
    ask: Ask | AskLater | None = None,
    text: bool = False,
    check: bool = False,
    **fields: Unpack[RunFields],
) -> Result[Any]:
    """
    Run one program in a sandbox of its own. See `jail.run`.
    """
    given: dict[str, Any] = dict(fields)
    streams: Any = {key: given.pop(key) for key in StreamFields.__annotations__ if key in given}
    session = make_session(policy if policy is not None else profile, given, name, resolver, _in_thread(ask))
    try:
        result = await _run(session, session.prepare(cmd, streams, text=text, last=True))
    finally:
        await _close(session)
    return result.check() if check else result
