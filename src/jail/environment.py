"""
The environment variables inside.

Pure: the caller's environment comes as an argument. Everything is left out that is not named.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from .host import Host
from .policy import Policy
from .view import View

__all__ = ["build_environment"]

# systemd.exec(5)'s default on a split /usr, which finds the same programs on a merged one. The caller's own is not
# passed: it names directories that are not shown.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


# Of these each program reads some, and some of them in one case alone: wget and apt in lower case. A server that has
# CGI programs inside makes HTTP_PROXY of a visitor's header (httpoxy), whether or not there is one here.
_PROXIED = ("http_proxy", "https_proxy", "all_proxy")
_DIRECT = "localhost,127.0.0.1,::1"


def build_environment(
    policy: Policy, host: Host, view: View, caller: Mapping[str, str], proxy_url: str | None
) -> dict[str, str]:
    """
    The variables a program starts with.

    Args:
        policy: `env` wins over `pass_env`, which wins over what is set here.
        host: for the interpreter's own programs, which come first on PATH where it is shown.
        view: for the home and the scratch directory.
        caller: the harness's environment.
        proxy_url: of the sandbox's own proxy; None where it has none.

    Returns:
        PATH, HOME, USER, LOGNAME, SHELL and TMPDIR, and the proxy's, then what the policy passes on and sets.
    """
    path = f"{host.bin_directory}:{_PATH}" if policy.interpreter else _PATH
    user = user_name(policy, host)
    ours = {
        "PATH": path,
        "HOME": f"{view.scratch}/home" if view.scratch else view.home,
        "USER": user,
        "LOGNAME": user,
        "SHELL": "/bin/sh",
        "TMPDIR": f"{view.scratch}/tmp" if view.scratch else "/tmp",  # noqa: S108 - a path inside
    }
    passed = {name: caller[name] for name in policy.pass_env if name in caller}
    own = passed | dict(policy.env)
    return ours | _proxy_variables(proxy_url, own) | own


def _proxy_variables(url: str | None, own: Collection[str]) -> dict[str, str]:
    """
    In both cases, but for what the caller has set in either: a program that reads the other one is to obey him, too.
    """
    if url is None:
        return {}
    values = {**dict.fromkeys(_PROXIED, url), "no_proxy": _DIRECT}
    taken = {name.lower() for name in own}
    return {
        spelling: value
        for name, value in values.items()
        if name not in taken
        for spelling in (name, name.upper())
    }


def user_name(policy: Policy, host: Host) -> str:
    """
    The account name inside: the caller's own where the uid is, otherwise "jail".
    """
    inside = policy.uid if policy.uid is not None else (host.uid or 1000)
    return host.user if inside == host.uid and host.user else "jail"
