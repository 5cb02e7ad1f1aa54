"""
A scope of this process's own, asked of systemd: a cgroup that it may divide.

As ``systemd-run --user --scope -p Delegate=yes`` does it, for a process that runs already. Needs the extra
``systemd`` (jeepney, a D-Bus client in Python alone).
"""

from __future__ import annotations

import os
import time

from .errors import UnsupportedError

__all__ = ["enter_scope"]

_MOVED_SECONDS = 5.0
_PAUSE_SECONDS = 0.01


def enter_scope() -> None:
    """
    Have this process moved to a new scope, with cgroups delegated: of the user's manager, or root's of the system's.

    Source: org.freedesktop.systemd1(5), StartTransientUnit(); systemd.resource-control(5), Delegate=.

    Raises:
        UnsupportedError: there is no D-Bus client, no bus, or the manager refuses.
    """
    try:
        from jeepney import DBusAddress, new_method_call  # noqa: PLC0415 - an extra
        from jeepney.io.blocking import open_dbus_connection  # noqa: PLC0415
        from jeepney.wrappers import DBusErrorResponse, unwrap_msg  # noqa: PLC0415
    except ImportError as exc:
        raise _refused("no jeepney", cure="pip install 'jail[systemd]'") from exc
    before = _own()
    manager = DBusAddress(
        "/org/freedesktop/systemd1",
        bus_name="org.freedesktop.systemd1",
        interface="org.freedesktop.systemd1.Manager",
    )
    properties: list[tuple[str, tuple[str, object]]] = [
        ("PIDs", ("au", [os.getpid()])),
        ("Delegate", ("b", True)),
        ("Description", ("s", f"jail, pid {os.getpid()}")),
    ]
    no_units: list[object] = []
    body = (f"jail-{os.getpid()}.scope", "fail", properties, no_units)
    call = new_method_call(manager, "StartTransientUnit", "ssa(sv)a(sa(sv))", body)
    try:
        with open_dbus_connection(bus=_bus()) as connection:
            unwrap_msg(connection.send_and_get_reply(call, timeout=_MOVED_SECONDS))
    except (OSError, DBusErrorResponse, TimeoutError) as exc:
        raise _refused(f"systemd's D-Bus says: {exc}") from exc
    _await_move(before)


def _await_move(before: str) -> None:
    """
    The answer is a job: the process is moved when that is done.
    """
    deadline = time.monotonic() + _MOVED_SECONDS
    while _own() == before:
        if time.monotonic() > deadline:
            raise _refused(f"systemd has not moved this process within {_MOVED_SECONDS:g} seconds")
        time.sleep(_PAUSE_SECONDS)


def _bus() -> str:
    """
    The bus that the manager is on: root's is the system's. Source: pam_systemd(8), $DBUS_SESSION_BUS_ADDRESS.
    """
    if os.geteuid() == 0:
        return "SYSTEM"
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    return os.environ.get("DBUS_SESSION_BUS_ADDRESS") or f"unix:path={runtime}/bus"


def _own() -> str:
    with open("/proc/self/cgroup", encoding="utf-8", errors="replace") as file:
        return file.read()


def _refused(found: str, cure: str | None = None) -> UnsupportedError:
    cure = cure or "systemd-run --user --scope -p Delegate=yes COMMAND"
    return UnsupportedError("cgroup", needs="a scope from systemd's user manager", found=found, cure=cure)
