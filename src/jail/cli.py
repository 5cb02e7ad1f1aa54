"""
``python -m jail``: the library at a prompt.

Exit codes are those of docker-run(1) and timeout(1): the program's own; 124 when its time was over; 125 when
the sandbox could not be had; 126 when the program cannot be executed; 127 when there is none; 128 and the
signal's number when a signal ended it. Nothing of ours is written to standard output by ``run``.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

from .command import StreamFields
from .denial import Ask
from .destination import Destination
from .doctor import diagnose
from .errors import JailError, PolicyError, SetupError
from .explain import render_guarantees, render_plan, render_plan_json
from .inert import render_inert
from .live import INTERACTIVE_HELP, SHELL, add_commands, parse_variable, run_at_terminal, say_published
from .outcome import Exited
from .planning import make_plan
from .policy import Policy
from .probe import probe
from .profile import list_profiles, load_policy
from .result import Result
from .sandbox import Sandbox, run
from .streams import write_all
from .top import add_top

__all__ = ["main"]

# Between two looks at what a program uses that is reported on: each takes a fraction of a millisecond.
_SAMPLE_SECONDS = 0.05

_JAIL_FAILED, _NOT_EXECUTABLE, _NOT_FOUND, _INTERRUPTED, _BROKEN_PIPE = 125, 126, 127, 130, 141


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """
        A wrong call is a failure of ours, not an exit code that the program might have given.
        """
        self.print_usage(sys.stderr)
        self.exit(_JAIL_FAILED, f"{self.prog}: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run one command line.

    Args:
        argv: without the program's name; the process's own by default.

    Returns:
        The exit code.
    """
    args = _parser().parse_args(argv)
    try:
        return int(args.command(args))
    except SetupError as exc:
        print(f"jail: {exc}", file=sys.stderr)
        return _exit_code_of(exc)
    except JailError as exc:
        print(f"jail: {exc}", file=sys.stderr)
        return _JAIL_FAILED
    except BrokenPipeError:
        return _BROKEN_PIPE
    except KeyboardInterrupt:
        return _INTERRUPTED


def _exit_code_of(exc: SetupError) -> int:
    if not exc.op.startswith("execute"):
        return _JAIL_FAILED
    return _NOT_FOUND if exc.errno == errno.ENOENT else _NOT_EXECUTABLE


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="jail", description="Run programs that nobody trusts.", allow_abbrev=False)
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)

    one = commands.add_parser(
        "run", help="run a program in a sandbox of its own", allow_abbrev=False, epilog=_EPILOG
    )
    _add_policy_options(one)
    one.add_argument("--cwd", metavar="DIR", help="where it starts, as seen inside (default: the workspace)")
    one.add_argument(
        "--json", metavar="TO", help="write the result as JSON to this file, or descriptor number"
    )
    one.add_argument(
        "--report",
        metavar="TO",
        help="write the result as a page of HTML, with charts of what it used over time",
    )
    one.add_argument(
        "--ask",
        action="store_true",
        help="ask at the terminal whether it may reach what no rule of --network is about",
    )
    one.add_argument(
        "-q", "--quiet", action="store_true", help="say nothing of what was refused, and of why it ended"
    )
    one.add_argument("-t", "--tty", action="store_true", help="give it a terminal of its own, shown at ours")
    one.add_argument("-i", "--interactive", action="store_true", help=INTERACTIVE_HELP)
    _add_live_options(one)
    one.add_argument("cmd", nargs="+", metavar="CMD", help="the program and its arguments, after --")
    one.set_defaults(command=_run)

    shell = commands.add_parser(
        "shell", help="an interactive shell in a sandbox of its own", allow_abbrev=False
    )
    _add_policy_options(shell)
    shell.add_argument(
        "--cwd", metavar="DIR", help="where it starts, as seen inside (default: the workspace)"
    )
    _add_live_options(shell)
    shell.set_defaults(command=_run, cmd=SHELL, tty=True, json=None, report=None, quiet=False, ask=False)

    add_commands(commands)
    add_top(commands)

    explain = commands.add_parser("explain", help="print what would be done and guaranteed, and do nothing")
    _add_policy_options(explain)
    explain.add_argument("--json", action="store_true", help="as JSON")
    explain.set_defaults(command=_explain)

    doctor = commands.add_parser("doctor", help="say what this host can do, and the cure for what it cannot")
    _add_policy_options(doctor)
    doctor.set_defaults(command=_doctor)

    profiles = commands.add_parser("profiles", help="list the built-in profiles, or print one")
    profiles.add_argument(
        "name", nargs="?", help="a profile, to be printed as TOML with everything it extends"
    )
    profiles.set_defaults(command=_profiles)
    return parser


_EPILOG = (
    "exit codes: the program's own; 124 timeout; 125 jail failed; 126, 127 no such program; 128+n signal"
)

# Flag, metavar or "" for a switch, whether it may be given again, help. The words are those of TOML and of jail.run.
_OPTIONS: tuple[tuple[str, str, bool, str], ...] = (
    ("read", "PATH", True, "show this file or directory, read-only"),
    ("write", "PATH", True, "show it, and let it be changed"),
    ("deny", "PATH", True, "hide it, although something above it is shown"),
    ("sockets", "PATH", True, "let this unix socket of the host's be connected to"),
    ("privileged-sockets", "PATH", True, "one whose server acts as root or as you, such as Docker's"),
    ("workspace", "DIR", False, "show this directory and start in it"),
    ("workspace-access", "read|write", False, "what may be done in the workspace"),
    (
        "network",
        "none|host|RULE",
        True,
        "no network, the host's, or what may be reached: pypi.org, *.github.com:443",
    ),
    ("deny-network", "RULE", True, "what may not be reached, although a rule of --network covers it"),
    ("network-connections", "N", False, "connections at once, of such a list"),
    ("network-idle", "TIME", False, "cut a connection that has moved nothing for this time"),
    ("network-bytes", "SIZE", False, "cut all of them after so much, sent and received"),
    (
        "publish",
        "PORT",
        True,
        "lead a port of the host's loopback to one inside: 8080, 9000:8080, 0:8080 (a free one)",
    ),
    (
        "network-proxy",
        "URL",
        False,
        "reach such a list through http://HOST:PORT, socks5://HOST:PORT or environment",
    ),
    ("proxy-variables", "", False, "set HTTP_PROXY and its like to a proxy inside, for such a list"),
    ("env", "NAME=VALUE", True, "set a variable"),
    ("pass-env", "NAME", True, "pass a variable on"),
    ("memory", "SIZE", False, "memory of all that runs inside, such as 512M"),
    ("cpus", "N", False, "processors that it may use, such as 1.5"),
    ("cpu-seconds", "TIME", False, "processor time of the program and all that it starts"),
    ("processes", "N", False, "processes and threads inside"),
    ("open-files", "N", False, "open files of each process"),
    ("file-size", "SIZE", False, "size of the largest file that can be written"),
    ("disk", "SIZE", False, "size of /tmp and the home, together"),
    ("inodes", "N", False, "files in /tmp and the home, together"),
    ("output", "SIZE", False, "end it when it has written more than this"),
    ("core", "SIZE", False, "size of the largest core dump (default: none)"),
    ("io", "SIZE", False, "bytes a second from and to each disk"),
    ("timeout", "TIME", False, "end it after this time, such as 90s or 2m"),
    ("grace", "TIME", False, "from there: time between SIGTERM and SIGKILL, such as 2s"),
    ("wall", "TIME", False, "end the sandbox after this time"),
    ("idle", "TIME", False, "end the sandbox after this time with nothing running"),
    ("strict", "", False, "limits that a kernel can keep are kept by it, or not at all"),
    ("cgroup", "PLACE", False, "auto, none, own, systemd, or a cgroup v2 directory"),
    ("hostname", "NAME", False, "the host's name inside"),
    ("uid", "N", False, "user id seen inside"),
    ("gid", "N", False, "group id seen inside"),
    ("allow-syscalls", "NAME", True, "allow a system call beside the built-in list"),
    ("deny-syscalls", "NAME", True, "deny one"),
    ("waive", "GUARANTEE", True, "go on without it where this host cannot keep it"),
)
_SHORT = {"publish": ["-p"]}  # as docker-run(1) has it
_COUNTS = ("network_connections", "processes", "open_files", "inodes", "uid", "gid")


def _add_policy_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("policy")
    group.add_argument("--profile", metavar="NAME", help="a built-in profile (default: default)")
    group.add_argument("--policy", metavar="FILE", help="a policy in TOML, instead of a profile")
    for name, metavar, again, text in _OPTIONS:
        if metavar:
            action = "append" if again else "store"
            group.add_argument(*_SHORT.get(name, []), f"--{name}", metavar=metavar, action=action, help=text)
        else:
            group.add_argument(f"--{name}", action="store_true", default=None, help=text)


def _add_live_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", metavar="NAME", help="a name for ps, inspect, kill and exec")
    parser.add_argument(
        "--inert-output", action="store_true", help="show control characters, as ^[ and its like"
    )


def _policy(args: argparse.Namespace) -> Policy:
    if args.profile and args.policy:
        raise PolicyError("--profile and --policy exclude each other; a policy can extend a profile")
    base = load_policy(Path(args.policy) if args.policy else args.profile or "default")
    given = {name.replace("-", "_") for name, *_ in _OPTIONS}
    fields = {name: value for name, value in vars(args).items() if name in given and value is not None}
    for name in _COUNTS:
        if name in fields:
            fields[name] = _count(name, fields[name])
    if fields.get("network") in (["none"], ["host"]):
        fields["network"] = fields["network"][0]
    if getattr(args, "ask", False) and "network" not in fields and base.network == "none":
        fields["network"] = []
    if "env" in fields:
        fields["env"] = dict(parse_variable(text) for text in fields["env"])
    return base.extend(**fields)


def _count(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise PolicyError(f"{text!r} is not a whole number", key=name) from None


def _run(args: argparse.Namespace) -> int:
    if args.ask and args.tty:
        raise PolicyError("--ask and --tty exclude each other: the terminal is the program's")
    policy = _policy(args)
    if args.report is not None:
        from .chart import require_matplotlib  # noqa: PLC0415 - most runs draw nothing

        require_matplotlib()
    with ExitStack() as stack:
        files = {
            option: stack.enter_context(Destination(target, option))
            for option, target in (("--json", args.json), ("--report", args.report))
            if target is not None
        }
        timeline = _SAMPLE_SECONDS if "--report" in files else None
        if args.tty:
            result = run_at_terminal(args, policy, timeline=timeline)
        else:
            result = _run_with_streams(args, policy, timeline=timeline, ask=_prompt(args, stack))
        if "--json" in files:
            files["--json"].write(result.to_json() + "\n")
        if "--report" in files:
            files["--report"].write(_report(result, policy))
    if not args.quiet:
        _say_why(result)
    return result.exit_code


def _prompt(args: argparse.Namespace, stack: ExitStack) -> Ask | None:
    if not args.ask:
        return None
    from .prompt import Prompt  # noqa: PLC0415 - most runs ask nothing

    prompt = Prompt()
    stack.callback(prompt.close)
    return prompt


def _say_why(result: Result[Any]) -> None:
    """
    What an exit code does not tell: that it was ended, which limits it met, what it was refused.
    """
    ended = [] if isinstance(result.outcome, Exited) else [result.outcome]
    for line in (*ended, *result.events, *result.denials):
        print(f"jail: {render_inert(str(line))}", file=sys.stderr)


def _report(result: Result[Any], policy: Policy) -> str:
    from .report import render_report  # noqa: PLC0415 - most runs have none

    return render_report(
        result,
        title=result.args[0],
        memory_limit=policy.memory,
        cpus_limit=policy.cpus,
        processes_limit=policy.processes,
    )


def _run_with_streams(
    args: argparse.Namespace, policy: Policy, *, timeline: float | None, ask: Ask | None
) -> Result[Any]:
    streams: StreamFields = {
        "cwd": args.cwd,
        "stdin": _stdin(),
        "inert_output": args.inert_output,
        "timeline": timeline,
        "on_stdout": lambda piece: write_all(1, piece),
        "on_stderr": lambda piece: write_all(2, piece),
    }
    if not policy.publish:
        return run(args.cmd, policy=policy, name=args.name, ask=ask, **streams)
    with Sandbox(policy, name=args.name, ask=ask) as box:
        say_published(box)
        return box.run(args.cmd, **streams)


def _stdin() -> int | None:
    """
    Ours, unless it is a terminal: that is never shared with what runs inside.
    """
    try:
        return None if os.isatty(0) else os.dup(0)
    except OSError:
        return None


def _explain(args: argparse.Namespace) -> int:
    plan, _ = make_plan(_policy(args))
    print(render_plan_json(plan) if args.json else render_plan(plan), end="\n" if args.json else "")
    return 0


def _doctor(args: argparse.Namespace) -> int:
    policy = _policy(args)
    text, is_well = diagnose(probe(), policy)
    print(text, end="")
    if is_well:
        print(render_guarantees(make_plan(policy)[0].guarantees), end="")
    return 0 if is_well else 1


def _profiles(args: argparse.Namespace) -> int:
    if args.name:
        print(load_policy(args.name).to_toml(), end="")
        return 0
    described = list_profiles()
    width = max(map(len, described))
    for name, description in described.items():
        print(f"{name:{width}}  {description}")
    return 0
