"""
A live sandbox: made, used for one program or many, and gone without a trace.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import weakref
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self, Unpack

from .environment import build_environment
from .errors import JailError, PolicyError
from .fields import parse_env_name, parse_env_value
from .guarantee import Guarantee
from .plan import Plan, Tier, choose_filter, choose_tier, compile_plan
from .policy import Policy, PolicyFields
from .probe import probe
from .process import Exec, Process, Sink
from .profile import load_policy
from .resolve import resolve
from .result import Result
from .scratch import Scratch
from .seccomp import compile_filter, load_filter
from .spawn import Init, spawn_init
from .view import View

__all__ = ["Command", "Sandbox", "make_plan", "run"]

Command = str | bytes | os.PathLike[str] | Sequence[str | bytes | os.PathLike[str]]


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

    def run(
        self,
        cmd: Command,
        *,
        shell: bool = False,
        input: bytes | str | None = None,
        stdin: int | None = None,
        timeout: float | None = None,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        on_stdout: Sink | None = None,
        on_stderr: Sink | None = None,
        last: bool = False,
    ) -> Result:
        """
        Run one program to its end.

        Args:
            cmd: the program and its arguments; a string is a program's name, or with `shell` a line for
                ``/bin/sh``.
            shell: have ``/bin/sh -c`` inside the sandbox read `cmd`.
            input: what it reads from standard input; text is encoded as UTF-8.
            stdin: a descriptor to be its standard input. Without either, standard input is empty.
            timeout: seconds until it is killed; the policy's by default.
            cwd: where it starts, as seen inside; the workspace by default, or the home.
            env: variables in addition to the policy's.
            on_stdout: called with each piece of standard output as it comes; `Result.stdout` is then empty.
            on_stderr: the same for standard error.
            last: the sandbox ends with this program, at once, and is then good for nothing more.

        Returns:
            How it ended, what it wrote and what it cost. Whatever the program did is no exception.

        Raises:
            SetupError: it could not be started: `errno` is ENOENT when there is no such program inside.
            PolicyError: an argument cannot be passed on.
            JailError: the sandbox is closed, or was killed from outside.
        """
        what = Exec(
            args=_arguments(cmd, shell=shell),
            env=self._env | _variables(env or {}),
            directory=os.fspath(cwd) if cwd is not None else self._directory(),
            input=input.encode() if isinstance(input, str) else input,
            stdin=stdin,
            timeout=timeout if timeout is not None else self.policy.timeout,
            on_stdout=on_stdout,
            on_stderr=on_stderr,
            last=last,
        )
        return self._run(what)

    def _run(self, what: Exec) -> Result:
        if not self._finalizer.alive:
            msg = "the sandbox is closed"
            raise JailError(msg)
        if self._init.pidfd < 0:
            msg = "the sandbox belongs to another process: this one was forked from its harness"
            raise JailError(msg)
        exec_id = next(self._ids)
        process = Process(self._init, exec_id, what)
        try:
            process.communicate()
        except BaseException:
            process.kill()
            raise
        setup_seconds = self._setup_seconds() if exec_id == 1 else 0.0
        stdout, stderr = process.output()
        args = tuple(os.fsdecode(arg) for arg in what.args)
        return Result(args, process.outcome(), stdout, stderr, process.usage(setup_seconds), self.guarantees)

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
    if tier is not Tier.LANDLOCK:
        init.kill()
    init.close()
    if scratch is not None:
        scratch.close()


def _variables(env: Mapping[str, str]) -> dict[str, str]:
    return {parse_env_name(name): parse_env_value(text) for name, text in env.items()}


def _arguments(cmd: Command, *, shell: bool) -> list[str | bytes]:
    if shell:
        if not isinstance(cmd, str | bytes):
            raise PolicyError("with shell=True it is one string, a line for /bin/sh", key="cmd")
        return ["/bin/sh", "-c", cmd]
    if isinstance(cmd, str | bytes | os.PathLike):
        return [os.fspath(cmd)]
    return [os.fspath(arg) for arg in cmd]


def run(
    cmd: Command,
    *,
    profile: str | os.PathLike[str] = "default",
    policy: Policy | None = None,
    shell: bool = False,
    input: bytes | str | None = None,
    stdin: int | None = None,
    cwd: str | os.PathLike[str] | None = None,
    on_stdout: Sink | None = None,
    on_stderr: Sink | None = None,
    **fields: Unpack[PolicyFields],
) -> Result:
    r"""
    Run one program in a sandbox of its own.

    Args:
        cmd: the program and its arguments, as for `Sandbox.run`.
        profile: name of a built-in profile, or path of a TOML file.
        policy: a policy to use instead of a profile.
        shell: as for `Sandbox.run`, like the next five.
        input: what it reads from standard input.
        stdin: a descriptor to be its standard input.
        cwd: where it starts, as seen inside.
        on_stdout: called with each piece of standard output.
        on_stderr: called with each piece of standard error.
        fields: fields of `Policy` in addition: ``workspace="."``, ``memory="512M"``, ``timeout=60``, ...

    Returns:
        How it ended, what it wrote, what it cost, and what was enforced.

    Raises:
        PolicyError, UnsupportedError, SetupError: as for `Sandbox` and `Sandbox.run`.

    >>> run(["echo", "hello"]).stdout  # doctest: +SKIP
    b'hello\n'
    """
    box = Sandbox(policy if policy is not None else profile, **fields)
    try:
        return box.run(
            cmd,
            shell=shell,
            input=input,
            stdin=stdin,
            cwd=cwd,
            on_stdout=on_stdout,
            on_stderr=on_stderr,
            last=True,
        )
    finally:
        box.close()
