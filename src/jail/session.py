"""
A live sandbox, as far as nobody waits: what `Sandbox` and the one of `jail.aio` have in common.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import os
import select
import signal
import socket
import time
import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from .cgroup import Group, Leaf
from .command import Command, Defaults, Exec, parse_exec
from .denial import Ask, Denials
from .egress import Wishes, make_broker, make_gateway, sockets_of
from .environment import build_environment
from .errors import JailError, SetupError
from .exchange import Exchange
from .guarantee import Guarantee
from .host import Host
from .limits import UNBOUNDED, Bounds, Keeper
from .plan import Plan, choose_filter, compile_plan
from .policy import Policy
from .probe import probe_with
from .profile import load_policy
from .resolve import disks_of, resolve
from .result import Result
from .scratch import Scratch
from .seccomp import compile_filter, load_filter
from .spawn import Init, receive_event_fds, spawn_init
from .stock import Stock
from .streams import refuse_closed
from .tier import Tier, choose_tier
from .tighten import (
    Tightening,
    TighterFields,
    compile_tightening,
    refuse_wider,
    tighter_filter,
    tighter_policy,
)
from .usage import Ledger, Usage
from .view import View
from .wire import EventKind, FileCall, RequestKind, Scope, encode_file, encode_signal

if TYPE_CHECKING:
    from .dial import LookUp

__all__ = ["ANSWER_SECONDS", "Asked", "Session", "make_plan", "patience_seconds"]

# How long jail-init may take to report an end that it has brought about, before it is given up.
_REPORT_SECONDS = 15.0

# How long a file may take to be opened.
ANSWER_SECONDS = 15.0

_BRING = (FileCall.OPEN, FileCall.SOCKET)  # a descriptor, that is


@functools.lru_cache(maxsize=32)
def _filter(variant: str, arch: str, allow: tuple[str, ...], deny: tuple[str, ...]) -> bytes:
    if allow or deny:
        return compile_filter(variant, arch, allow=allow, deny=deny)
    return load_filter(variant, arch)


def _plan(policy: Policy, view: View) -> Plan:
    host = probe_with(policy.cgroup)
    variant = choose_filter(policy, host)
    code = _filter(variant, host.arch, policy.allow_syscalls, policy.deny_syscalls)
    return compile_plan(policy, host, view, code)


# `compile_plan` is pure, so the same view means the same plan.
_cached_plan = functools.lru_cache(maxsize=64)(_plan)


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
    host = probe_with(policy.cgroup)
    view = resolve(policy, host, siblings=choose_tier(host) is Tier.LANDLOCK)
    if scratch is not None:  # a directory that no other sandbox has
        view = dataclasses.replace(view, scratch=scratch)
        return _plan(policy, view), view
    return _cached_plan(policy, view), view


def _tighten(policy: Policy, view: View, plan: Plan, fields: Mapping[str, Any]) -> Tightening:
    """
    What one program has less of than a sandbox of this policy and view.
    """
    host = probe_with(policy.cgroup)
    asked = tighter_policy(policy, fields)
    fewer_files = bool({"write", "deny", "workspace_access"} & fields.keys())
    views = (view, view)
    if "write" in fields:  # before what is denied is looked for in there
        refuse_wider(view, resolve(asked.replace(deny=()), host))
    if fewer_files:
        views = (view, dataclasses.replace(resolve(asked, host, siblings=True), scratch=view.scratch))
    name = tighter_filter(policy, asked, host, fewer_files=fewer_files)
    code = _filter(name, host.arch, asked.allow_syscalls, asked.deny_syscalls) if name else None
    return compile_tightening(policy, asked, host, views, plan.keepers, seccomp_filter=code)


def _make_group(policy: Policy, host: Host, view: View, at_end: ExitStack) -> Group | None:
    """
    The sandbox's cgroups, where there is a place for them.

    Raises:
        SetupError: they cannot be made.
    """
    if not host.has("cgroup"):
        return None
    devices = disks_of(view) if policy.io is not None and "io" in host.cgroup.controllers else ()
    try:
        group = Group(host.cgroup, policy, devices)
    except OSError as exc:
        raise SetupError(
            f"cgroup in {host.cgroup.path}",
            syscall="mkdir(2), write(2)",
            errno=exc.errno or 0,
            path=exc.filename,
            hint=exc.strerror,
        ) from exc
    at_end.callback(group.close)
    return group


def _bounds(sandbox: Bounds, own: Bounds) -> Bounds:
    """
    What a program may have: its own limits, and otherwise those of the sandbox.
    """
    if own is UNBOUNDED:
        return sandbox
    given = {name: value for name, value in dataclasses.asdict(own).items() if value is not None}
    return dataclasses.replace(sandbox, **given)


def _kept_by(plan: Plan, own: Bounds, keeper: Keeper) -> Bounds:
    """
    Those of a program's own limits that this one keeps.
    """
    if own is UNBOUNDED:
        return own
    kept = {
        name: getattr(own, name)
        for name in ("memory", "processes", "cpus")
        if getattr(plan.keepers, name) is keeper
    }
    return Bounds(**kept)


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """
    A call that was asked for. A context manager, which closes the socket.

    Args:
        call: which.
        id: by which its process can be killed.
        socket: can be read when there is an answer.
    """

    call: FileCall
    id: int
    socket: socket.socket

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


class Session:
    """
    One sandbox, from its making to its end. Ends when it is collected, at the latest; `at_end` is closed then.

    Args:
        policy: a `Policy`, or the name or path of a profile.
        fields: fields of `Policy` in addition.
        look: who is asked for the addresses of a name that is allowed; None for the host's own resolver.
        ask: who is asked about what no rule is about; None for nobody.
        peers: other sandboxes of this harness, by names that the policy allows.

    Raises:
        PolicyError, UnsupportedError, SetupError: as `Sandbox` has them.
    """

    def __init__(
        self,
        policy: Policy | str | os.PathLike[str],
        fields: Mapping[str, Any],
        look: LookUp | None = None,
        ask: Ask | None = None,
        peers: Mapping[str, Session] | None = None,
    ) -> None:
        base = policy if isinstance(policy, Policy) else load_policy(policy)
        self.policy = base.extend(**fields) if fields else base
        self._ids = itertools.count(1)
        self._ledger = Ledger()
        self._began = began = time.monotonic()
        with ExitStack() as at_end:
            host = probe_with(self.policy.cgroup)
            scratch = None
            if choose_tier(host) is Tier.LANDLOCK:
                scratch = Scratch()
                at_end.callback(scratch.close)
            self.plan, self.view = make_plan(self.policy, scratch=scratch.path if scratch else None)
            self.env = build_environment(self.policy, host, self.view, os.environ)
            planned = time.monotonic()
            self.group = _make_group(self.policy, host, self.view, at_end)
            grouped = time.monotonic()
            self.stock = Stock(*sockets_of(self))
            at_end.callback(self.stock.close)
            self._peers = dict(peers or {})  # which live as long as this
            self.denials = Denials()
            wishes = Wishes(look, ask, self._peers)
            self.gateway = make_gateway(self.policy, self.plan, self.denials, wishes, at_end)
            self._way_out = self.gateway or make_broker(self.policy, host, self.denials, at_end)
            self.init = self._spawn()
            self.at_end = at_end.pop_all()
        self.init.setup |= {"plan": planned - began} | ({"cgroup": grouped - planned} if self.group else {})
        self._finalizer = weakref.finalize(self, _end, self.init, self.plan.tier, self.at_end)
        if self.gateway:
            self.gateway.welcome(self.stock)

    def _spawn(self) -> Init:
        plan = self.plan
        fd = self.group.init_fd if self.group else -1
        way_out = self._way_out if isinstance(self.policy.network, tuple) else None
        with way_out.open() if way_out else contextlib.nullcontext() as sockets:
            init = spawn_init(
                plan.clone_flags,
                plan.ambient,
                plan.setup,
                plan.each_exec,
                cgroup_fd=fd,
                sockets_fd=sockets.fileno() if sockets else -1,
            )
        if self.group:
            self.group.entered()
        return init

    def prepare(
        self,
        cmd: Command,
        fields: Mapping[str, Any],
        *,
        text: bool = False,
        background: bool = False,
        last: bool = False,
    ) -> Exec:
        """
        What `run` and `popen` will start, for these arguments. Starts nothing.

        Args:
            cmd: the program and its arguments.
            fields: `ExecFields`.
            text: the caller wants text.
            background: as `popen` starts it.
            last: the sandbox ends with it.

        Raises:
            PolicyError, TypeError: the arguments make no sense.
        """
        given = dict(fields)
        tighter = {key: given.pop(key) for key in TighterFields.__annotations__ if key in given}
        less = _tighten(self.policy, self.view, self.plan, tighter) if tighter else Tightening()
        defaults: Defaults = {
            "env": self.env,
            "directory": self.directory,
            "timeout": self.policy.timeout,
            "grace": self.policy.grace,
            "ops": (*less.ops, *self.plan.each_last),
            "guarantees": self._guarantees(less),
            "bounds": _bounds(self.plan.bounds, less.own),
            "watched": _kept_by(self.plan, less.own, Keeper.WATCH),
            "grouped": _kept_by(self.plan, less.own, Keeper.CGROUP),
        }
        return parse_exec(cmd, given, defaults, text=text, background=background, last=last)

    def _guarantees(self, less: Tightening) -> tuple[Guarantee, ...]:
        if not less.guarantees:
            return self.plan.guarantees
        others = {guarantee.name: guarantee for guarantee in less.guarantees}
        kept = [others.pop(guarantee.name, guarantee) for guarantee in self.plan.guarantees]
        return (*kept, *others.values())

    def next_id(self) -> int:
        """
        A number for the next exec.

        Raises:
            JailError: as `refuse_ended`.
        """
        self.refuse_ended()
        return next(self._ids)

    def refuse_ended(self) -> None:
        """
        Raises:
            JailError: the sandbox is closed, lost, or another process's.
        """
        if self.is_closed:
            raise JailError("the sandbox is closed")
        self.refuse_in_child()
        if self.init.pidfd < 0:
            raise self.init.lost()

    def open(self, what: Exec) -> Exchange:
        """
        Ask for a program to be started.

        Raises:
            JailError: the sandbox is closed, or was killed from outside.
            PolicyError: an argument cannot be passed on.
            OSError: a descriptor is not open.
        """
        exec_id = self.next_id()
        refuse_closed(what)
        exchange = Exchange(self.init, exec_id, what, self._leaf(exec_id, what))
        exchange.on_usage = self._ledger.add  # and no method of ours: whoever drives it keeps nobody alive
        if self._way_out:
            exchange.meanwhile = self._way_out.from_now()
        return exchange

    def _leaf(self, exec_id: int, what: Exec) -> Leaf | None:
        if self.group is None:
            return None
        try:
            return self.group.leaf(exec_id, what.grouped)
        except OSError as exc:
            if self.init.ended():
                raise self.init.gone() from exc
            raise SetupError(
                "cgroup of the program", syscall="mkdir(2), write(2)", errno=exc.errno or 0, path=exc.filename
            ) from exc

    def file(self, call: FileCall, path: str, flags: int = 0, mode: int = 0) -> int:
        """
        One call on a file, made where a program would stand.

        Args:
            call: which.
            path: absolute, as seen inside.
            flags: of open(2) or unlinkat(2); the family of a socket.
            mode: of open(2) or mkdir(2); the type of a socket.

        Returns:
            A descriptor for `FileCall.OPEN` and `FileCall.SOCKET`, which the caller owns; otherwise -1.

        Raises:
            OSError: what the call gave.
            SetupError: it could not be made.
            JailError: the sandbox is closed, or was killed from outside.
        """
        with self.ask_file(call, path, flags, mode) as asked:
            self._await_answer(asked, path)
            return self.answer_of(asked, path)

    def ask_file(self, call: FileCall, path: str, flags: int = 0, mode: int = 0) -> Asked:
        """
        Ask for such a call, and do not wait: `answer_of` has what came of it once the socket can be read.
        """
        body = encode_file(call, os.fsencode(path), flags=flags, mode=mode)
        exec_id = self.next_id()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        asked = Asked(call, exec_id, ours)
        with theirs, ExitStack() as on_failure:
            on_failure.callback(ours.close)
            self.init.ask(RequestKind.FILE, exec_id, body, [theirs.fileno()])
            on_failure.pop_all()
        return asked

    def answer_of(self, asked: Asked, path: str) -> int:
        """
        See `file`.
        """
        event, fds = receive_event_fds(asked.socket, 1)
        if event is None:
            raise self.init.gone()
        if event.kind is EventKind.FILE and not event.err and len(fds) == (asked.call in _BRING):
            return fds[0] if fds else -1
        for fd in fds:
            os.close(fd)
        if event.kind is EventKind.FAULT:
            raise self.init.fault(event, path)
        if event.kind is EventKind.FILE and event.err:
            raise OSError(event.err, os.strerror(event.err), path)
        raise JailError(f"{path}: it was killed before it could be opened")

    def make_socket(self, family: int, kind: int) -> socket.socket:
        """
        A socket in the sandbox's network, neither bound nor connected.

        Args:
            family: AF_INET or AF_INET6.
            kind: SOCK_STREAM or SOCK_DGRAM.

        Raises:
            OSError: what socket(2) gave.
            SetupError, JailError: as `file` has them.
        """
        with self.ask_socket(family, kind) as asked:
            self._await_answer(asked, "socket")
            return self.socket_of(asked, family, kind)

    def ask_socket(self, family: int, kind: int) -> Asked:
        """
        Ask for one, and do not wait: see `ask_file`.
        """
        return self.ask_file(FileCall.SOCKET, "socket", family, kind | socket.SOCK_CLOEXEC)

    def socket_of(self, asked: Asked, family: int, kind: int) -> socket.socket:
        """
        See `make_socket`.
        """
        return socket.socket(family, kind, 0, self.answer_of(asked, "socket"))

    def _await_answer(self, asked: Asked, path: str) -> None:
        poll = select.poll()
        poll.register(asked.socket, select.POLLIN)
        if not poll.poll(ANSWER_SECONDS * 1000):
            raise self.unanswered(asked, path)

    def unanswered(self, asked: Asked, path: str) -> JailError:
        """
        The exception for a call that has taken too long; the process that makes it is killed.
        """
        self.init.ask(RequestKind.SIGNAL, asked.id, encode_signal(signal.SIGKILL, Scope.TREE))
        return JailError(f"{path}: it could not be opened within {ANSWER_SECONDS:g} seconds")

    def refuse_in_child(self) -> None:
        """
        Raises:
            JailError: this process was forked from the one that the sandbox belongs to.
        """
        self.init.refuse_in_child()

    def give_up(self, exchange: Exchange) -> None:
        """
        End the sandbox: jail-init has not reported what it was to bring about.
        """
        self.init.kill()
        msg = f"jail-init reported no end within {_REPORT_SECONDS:g} seconds of a timeout"
        exchange.fail(JailError(msg))

    def result_of(self, exchange: Exchange) -> Result[Any]:
        """
        What came of a program that is over; the first has the building of the sandbox among what it cost.

        Raises:
            JailError: it was lost; or what a caller's own function raised.
        """
        if exchange.error is not None:
            raise exchange.error
        if exchange.id == 1:
            self.init.await_ready()
            exchange.execution.setup = self.init.setup
        return exchange.execution.result()

    def usage(self) -> Usage:
        """
        What all that has run here has cost so far.
        """
        figures = self.group.usage() if self.group and not self.is_closed else {}
        if self.gateway:
            figures = {**figures, "network_bytes": (sum(self.gateway.moved), "what the relay has moved")}
        return self._ledger.total(time.monotonic() - self._began, figures)

    @property
    def directory(self) -> str:
        """
        Where programs start.
        """
        if self.view.scratch and self.view.directory == self.view.home:
            return f"{self.view.scratch}/home"
        return self.view.directory

    @property
    def is_closed(self) -> bool:
        """
        Whether it was ended.
        """
        return not self._finalizer.alive

    def hang_up(self) -> None:
        """
        Have everything inside end, and do not wait for it.
        """
        self.init.hang_up(kill=self.plan.tier is not Tier.LANDLOCK)

    def close(self) -> None:
        """
        End everything inside and wait until it is gone. May be called again.
        """
        self._finalizer()


def patience_seconds(what: Exec) -> float | None:
    """
    How long to wait for the end of a program that jail-init ends in time; None for ever.
    """
    return None if what.timeout is None else what.timeout + what.grace + _REPORT_SECONDS


def _end(init: Init, tier: Tier, at_end: ExitStack) -> None:
    with at_end:
        init.hang_up(kill=tier is not Tier.LANDLOCK)
        init.close()
