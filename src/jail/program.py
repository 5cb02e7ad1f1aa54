"""
A program in a live sandbox, as far as nobody waits: what `Process` and the one of `jail.aio` have in common.
"""

from __future__ import annotations

import os
import signal
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Any, Generic, Literal, TypeVar

from .denial import Denial
from .errors import JailError
from .exchange import Exchange
from .guarantee import Guarantee
from .outcome import Outcome
from .plan import Plan
from .policy import Policy
from .reach import Reach
from .result import Output, Text
from .session import Session
from .streams import set_size, typed
from .usage import Usage
from .wire import Scope

__all__ = ["Box", "Program"]

_SCOPES = {"process": Scope.PROCESS, "group": Scope.GROUP, "tree": Scope.TREE}


class Program(ABC):
    """
    One exec that was started.

    Args:
        session: its sandbox, which lives as long as this.
        exchange: the exec.
    """

    stdin: Any
    stdout: Any
    stderr: Any
    _ended: Any
    _feed: Any = (
        None  # below stdin: `last`, what was written last, and `is_typed`, whether its end is a character
    )

    def __init__(self, session: Session, exchange: Exchange) -> None:
        self.id = exchange.id
        self._session = session
        self._exchange = exchange
        self._execution = exchange.execution
        self._host_pid = exchange.host_pid

    @property
    def args(self) -> tuple[str, ...]:
        """
        What was executed.
        """
        return tuple(os.fsdecode(arg) for arg in self._execution.what.args)

    @property
    def pid(self) -> int:
        """
        Its process id as the sandbox has it.
        """
        return self._execution.pid

    @property
    def host_pid(self) -> int | None:
        """
        Its process id as the caller has it; None when it has ended.
        """
        return None if self._execution.has_ended else self._host_pid

    @property
    def outcome(self) -> Outcome | None:
        """
        How it ended; None while it runs. `Killed` also where it ended with its sandbox.
        """
        return self._execution.outcome

    @property
    def exit_code(self) -> int | None:
        """
        As `Result.exit_code`; None while it runs.
        """
        outcome = self._execution.outcome
        return None if outcome is None else outcome.exit_code

    @property
    def usage(self) -> Usage | None:
        """
        What it cost; None while it runs, and where it ended with its sandbox, which leaves nobody to ask.
        """
        return self._execution.usage

    def output(self) -> tuple[Output | Text, Output | Text]:
        """
        What it has written so far to standard output and error, as far as it is kept; see `output_limit`.
        """
        return self._execution.output()

    def poll(self) -> int | None:
        """
        The exit code if it has ended, and None otherwise. Does not wait.
        """
        return self.exit_code if self._ended.is_set() else None

    def _code(self) -> int:
        """
        The exit code of what has ended; or the error that ended it.
        """
        if self._exchange.error is not None:
            raise self._exchange.error
        code = self.exit_code
        if code is None:
            raise JailError(f"{self._execution.name}: nobody knows how it ended")
        return code

    @abstractmethod
    def _held(self, stream: Any) -> bytes:  # noqa: ANN401 - as the surface has it
        """
        What was read from the program, and not by the caller.
        """

    def _adopt(self, data: bytes | str | None) -> None:
        """
        Have this written, and the streams that the caller reads no more read to their ends, and kept.
        """
        if self.stdin is not None and not self.stdin.closed:
            decode = self._execution.what.decode or ("utf-8", "strict")
            fed = (data.encode(decode[0]) if isinstance(data, str) else data) or b""
            copy = os.dup(self.stdin.fileno())
            if self._execution.what.size is not None:
                fed = typed(fed, self._feed.last)
            self._feed.is_typed = False  # the copy goes on with it
            self.stdin.close()
            self._exchange.adopt_input(copy, fed)
        for name in ("stdout", "stderr"):
            stream = getattr(self, name)
            if stream is not None and not stream.closed:
                self._exchange.adopt(os.dup(stream.fileno()), name, self._held(stream))
                stream.close()

    def signal(self, number: int, scope: Literal["process", "group", "tree"] = "process") -> None:
        """
        Send a signal. Harmless when it has ended.

        Args:
            number: of ``signal``.
            scope: "process", its process "group", or the "tree" of all that descends from it, daemons included.
        """
        self._exchange.signal(number, _SCOPES[scope])

    def terminate(self) -> None:
        """
        SIGTERM to all that descends from it.
        """
        self._exchange.signal(signal.SIGTERM, Scope.TREE)

    def kill(self) -> None:
        """
        SIGKILL to all that descends from it, what it has left behind included.
        """
        self._exchange.kill()

    def pause(self) -> None:
        """
        SIGSTOP to all that descends from it. Its time goes on.
        """
        self._exchange.signal(signal.SIGSTOP, Scope.TREE)

    def resume(self) -> None:
        """
        SIGCONT to all that descends from it.
        """
        self._exchange.signal(signal.SIGCONT, Scope.TREE)

    def resize(self, rows: int, columns: int) -> None:
        """
        Change the size of its terminal. Harmless without one.
        """
        for stream in (self.stdout, self.stdin):
            if self._execution.what.size and stream is not None and not stream.closed:
                set_size(stream.fileno(), rows, columns)
                return
        self._exchange.streams.resize(rows, columns)

    def close(self) -> None:
        """
        Close its streams on this side. It goes on, and what it writes to a closed one is SIGPIPE to it.
        """
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()

    def __repr__(self) -> str:
        state = self.outcome or "running"
        return f"<Process {self.id} {self._execution.name!r}: {state}>"


Started = TypeVar("Started", bound=Program)


class Box(Generic[Started]):
    """
    A live sandbox, as far as nobody waits: what it is, and what `popen` has started in it.

    Args:
        session: it, to be closed with this.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._processes: dict[int, Started] = {}

    @property
    def policy(self) -> Policy:
        """
        What holds here.
        """
        return self._session.policy

    @property
    def guarantees(self) -> tuple[Guarantee, ...]:
        """
        What is enforced, by which mechanism.
        """
        return self._session.plan.guarantees

    @property
    def denials(self) -> tuple[Denial, ...]:
        """
        What was refused in here so far, each once; see `Result.denials` for one run.
        """
        return self._session.denials.since()

    @property
    def network(self) -> Reach:
        """
        What may be reached from here, where that is a list; it can be changed.
        """
        return Reach(self._session)

    @property
    def published(self) -> dict[int, tuple[str, int]]:
        """
        Where on the host the ports of `publish` are: port inside -> address and port.
        """
        return self._session.gateway.published if self._session.gateway else {}

    @property
    def usage(self) -> Usage:
        """
        What all of its programs have cost so far, together: those that have ended; with a cgroup, those that run
        as well. `wall_seconds` is its age.
        """
        return self._session.usage()

    @property
    def plan(self) -> Plan:
        """
        How this sandbox was built.
        """
        return self._session.plan

    @property
    def processes(self) -> tuple[Started, ...]:
        """
        The programs that `popen` has started and that have not ended, in the order of their start.
        """
        return tuple(process for process in list(self._processes.values()) if process.poll() is None)

    def process(self, number: int) -> Started:
        """
        What `popen` has started, by its `Process.id`, ended or not. Kept until the sandbox is closed.

        Raises:
            KeyError: it has started none of that number.
        """
        return self._processes[number]
