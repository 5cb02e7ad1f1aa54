"""
A live sandbox: made, used for one program or many, and gone without a trace.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import time
import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Literal, Self, Unpack, overload

from .command import Command, Defaults, Exec, ExecFields, StreamFields, parse_exec
from .environment import build_environment
from .errors import JailError
from .exchange import Exchange
from .guarantee import Guarantee
from .loop import Loop
from .plan import Plan, Tier, choose_filter, choose_tier, compile_plan
from .policy import Policy, PolicyFields
from .probe import probe
from .process import Process
from .profile import load_policy
from .resolve import resolve
from .result import Output, Result, Text
from .scratch import Scratch
from .seccomp import compile_filter, load_filter
from .spawn import Init, spawn_init
from .tighten import (
    Tightening,
    TighterFields,
    compile_tightening,
    tighter_filter,
    tighter_policy,
)
from .view import View

__all__ = ["Sandbox", "make_plan", "run"]

# How long jail-init may take to report an end that it has brought about, before it is given up.
_REPORT_SECONDS = 15.0


@functools.lru_cache(maxsize=32)
def _filter(variant: str, arch: str, allow: tuple[str, ...], deny: tuple[str, ...]) -> bytes:
    if allow or deny:
        return compile_filter(variant, arch, allow=allow, deny=deny)
    return load_filter(variant, arch)


@functools.lru_cache(maxsize=64)
def _plan(policy: Policy, view: View) -> Plan:
    """
    The plan on this host. `compile_plan` is pure, so the same view means the same plan.
    """
    host = probe()
    variant = choose_filter(policy, host)
    code = _filter(variant, host.arch, policy.allow_syscalls, policy.deny_syscalls)
    return compile_plan(policy, host, view, code)


def make_plan(policy: Policy, *, scratch: str | None = None) -> tuple[Plan, View]:
    """
    The plan for a policy on this host, at this moment, and what of the host it shows. Starts nothing.

    Args:
        policy: what must hold.
        scratch: a directory of the host's for tmp and home, where there are no mounts to make one.

    Raises:
        PolicyError: a path is missing.
        UnsupportedError: this host cannot keep a guarantee, and the policy does not waive it.
    """
    host = probe()
    view = resolve(policy, host, siblings=choose_tier(host) is Tier.LANDLOCK)
    if scratch is not None:
        view = dataclasses.replace(view, scratch=scratch)
    return _plan(policy, view), view


def _tighten(policy: Policy, view: View, fields: Mapping[str, Any]) -> Tightening:
    """
    What one program has less of than a sandbox of this policy and view.
    """
    host = probe()
    asked = tighter_policy(policy, fields)
    fewer_files = bool({"write", "deny", "workspace_access"} & fields.keys())
    views = (view, view)
    if fewer_files:
        views = (view, dataclasses.replace(resolve(asked, host, siblings=True), scratch=view.scratch))
    name = tighter_filter(policy, asked, host, fewer_files=fewer_files)
    code = _filter(name, host.arch, asked.allow_syscalls, asked.deny_syscalls) if name else None
    return compile_tightening(policy, asked, host, views, code)


class Sandbox:
    r"""
    One sandbox, from its making to its end.

    A context manager. What runs inside ends with it; so does everything when the harness dies, however it
    dies. May be used from any thread, and by several at once.

    The constructor starts to build it and does not wait: ``with`` does, or the first `run`. A set-up that
    fails is raised there.

    Args:
        policy: a `Policy`, or the name or path of a profile.
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
        self, policy: Policy | str | os.PathLike[str] = "default", **fields: Unpack[PolicyFields]
    ) -> None:
        base = policy if isinstance(policy, Policy) else load_policy(policy)
        self.policy = base.extend(**fields) if fields else base
        self._ids = itertools.count(1)
        self._processes: dict[int, Process] = {}
        with ExitStack() as on_failure:
            host = probe()
            scratch = None
            if choose_tier(host) is Tier.LANDLOCK:
                scratch = Scratch()
                on_failure.callback(scratch.close)
            self._plan, self._view = make_plan(self.policy, scratch=scratch.path if scratch else None)
            self._env = build_environment(self.policy, host, self._view, os.environ)
            plan = self._plan
            self._init = spawn_init(plan.clone_flags, plan.ambient, plan.setup, plan.each_exec)
            on_failure.pop_all()
        self._finalizer = weakref.finalize(self, _end, self._init, scratch, self._plan.tier)

    @property
    def guarantees(self) -> tuple[Guarantee, ...]:
        """
        What is enforced, by which mechanism.
        """
        return self._plan.guarantees

    @property
    def plan(self) -> Plan:
        """
        How this sandbox was built.
        """
        return self._plan

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
        result = self.run_prepared(self.prepare(cmd, fields, text=text))
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
        exchange = self._open(self.prepare(cmd, fields, text=text, background=True))
        loop = Loop()
        exchange.attach(loop)
        try:
            loop.run_until(lambda: exchange.execution.is_started or exchange.is_over)
        except BaseException as exc:
            exchange.fail(exc)
            raise
        exchange.detach()
        if exchange.error is not None:
            raise exchange.error
        process = Process(self, exchange)
        self._processes[process.id] = process
        return process

    @property
    def processes(self) -> tuple[Process, ...]:
        """
        The programs that `popen` has started and that have not ended, in the order of their start.
        """
        return tuple(process for process in list(self._processes.values()) if process.poll() is None)

    def process(self, number: int) -> Process:
        """
        What `popen` has started, by its `Process.id`, ended or not. Kept until the sandbox is closed.

        Raises:
            KeyError: it has started none of that number.
        """
        return self._processes[number]

    def prepare(
        self,
        cmd: Command,
        fields: ExecFields,
        *,
        text: bool = False,
        background: bool = False,
        last: bool = False,
    ) -> Exec:
        """
        What `run` and `popen` will start, for these arguments. Starts nothing.

        Args:
            cmd: as for `run`.
            fields: as for `run`.
            text: as for `run`.
            background: as `popen` starts it.
            last: the sandbox ends with it.

        Raises:
            PolicyError, TypeError: the arguments make no sense.
        """
        given = dict(fields)
        tighter = {key: given.pop(key) for key in TighterFields.__annotations__ if key in given}
        less = _tighten(self.policy, self._view, tighter) if tighter else Tightening()
        defaults: Defaults = {
            "env": self._env,
            "directory": self._directory(),
            "timeout": self.policy.timeout,
            "grace": self.policy.grace,
            "ops": less.ops,
            "guarantees": self._guarantees(less),
        }
        return parse_exec(cmd, given, defaults, text=text, background=background, last=last)

    def _guarantees(self, less: Tightening) -> tuple[Guarantee, ...]:
        if not less.guarantees:
            return self.guarantees
        others = {guarantee.name: guarantee for guarantee in less.guarantees}
        return tuple(others.get(guarantee.name, guarantee) for guarantee in self.guarantees)

    def _open(self, what: Exec) -> Exchange:
        if not self._finalizer.alive:
            raise JailError("the sandbox is closed")
        self.refuse_in_child()
        return Exchange(self._init, next(self._ids), what)

    def refuse_in_child(self) -> None:
        """
        Raises:
            JailError: this process was forked from the one that the sandbox belongs to.
        """
        if self._init.pidfd < 0 and self._finalizer.alive:
            raise JailError("the sandbox belongs to another process: this one was forked from its harness")

    def run_prepared(self, what: Exec) -> Result[Any]:
        """
        Run what `prepare` has made, to its end.
        """
        exchange = self._open(what)
        loop = Loop()
        deadline = None
        if what.timeout is not None:
            deadline = time.monotonic() + what.timeout + what.grace + _REPORT_SECONDS
        exchange.attach(loop)
        try:
            in_time = loop.run_until(lambda: exchange.is_over, deadline)
        except BaseException as exc:
            exchange.fail(exc)
            raise
        if not in_time:
            self._init.kill()
            exchange.fail(
                JailError(f"jail-init reported no end within {_REPORT_SECONDS:g} seconds of a timeout")
            )
        if exchange.error is not None:
            raise exchange.error
        return exchange.execution.result(self._setup_seconds() if exchange.id == 1 else 0.0)

    def _setup_seconds(self) -> float:
        self._init.await_ready()
        return self._init.setup_seconds

    def _directory(self) -> str:
        if self._view.scratch and self._view.directory == self._view.home:
            return f"{self._view.scratch}/home"
        return self._view.directory

    def close(self) -> None:
        """
        End everything inside and wait until it is gone. May be called again.
        """
        self._finalizer()
        for process in self._processes.values():
            process.settle()
        self._processes.clear()

    def __enter__(self) -> Self:
        try:
            self._init.await_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _end(init: Init, scratch: Scratch | None, tier: Tier) -> None:
    init.is_ending = True
    if tier is not Tier.LANDLOCK:
        init.kill()
    init.close()
    if scratch is not None:
        scratch.close()


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
    text: Literal[False] = ...,
    check: bool = ...,
    **fields: Unpack[RunFields],
) -> Result[Output]: ...
def run(
    cmd: Command,
    *,
    profile: str | os.PathLike[str] = "default",
    policy: Policy | None = None,
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
    box = Sandbox(policy if policy is not None else profile, **given)
    try:
        result = box.run_prepared(box.prepare(cmd, streams, text=text, last=True))
    finally:
        box.close()
    return result.check() if check else result
