"""
What an allowlist costs: bytes and connections through it, beside pasta, slirp4netns, sandlock and bare loopback.

::

    python benchmarks/network.py [--rounds 9] [--sandlock PYTHON] [--json FILE]

The same client runs in each contender's sandbox, for as long as the benchmark, and does what it is told; the server is a
process of its own on the host's loopback. In each round every contender does each thing once, in an order that is
drawn anew. Run it as an ordinary user, who may open ``/dev/net/tun``. Nothing is asserted about time.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import jail
from network_ends import CLIENT, SERVER
from one_shot import SEED, describe_machine

CONNECTIONS, BYTES, HELD, MANY = 200, 256 << 20, 2000, 20_000
TASKS = {
    "connect": f"connect {CONNECTIONS}",
    "down": f"down 1 {BYTES}",
    "up": f"up 1 {BYTES}",
    "4 down": f"down 4 {BYTES}",
}
_PYTHON = [jail.probe().bin_directory + "/python3", "-I", "-S", "-u", "-c", CLIENT]
_PATIENCE_SECONDS = 60.0


class SkippedError(Exception):
    """
    Why a contender cannot take part on this machine.
    """


class Client:
    """
    The client in one contender's sandbox.
    """

    def __init__(self, stdin: IO[str], stdout: IO[str]) -> None:
        self._stdin, self._stdout = stdin, stdout
        if self._stdout.readline() != "ready\n":
            raise SkippedError("its client did not begin")

    def do(self, task: str) -> int:
        """
        One task: nanoseconds, or what else it counts.
        """
        self._stdin.write(task + "\n")
        self._stdin.flush()
        answer = self._stdout.readline()
        if not answer.strip().isdecimal():
            raise SkippedError(f"{task}: {answer.strip() or 'it ended'}")
        return int(answer)


@contextmanager
def _running(command: list[str]) -> Iterator[Client]:
    pipe = subprocess.PIPE
    # A contender that hangs is ended, with all that it has started.
    command = ["timeout", "--kill-after=1", "600", *command]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            if process.stdin is None or process.stdout is None:
                raise RuntimeError("no pipe")
            yield Client(process.stdin, process.stdout)
        finally:
            process.terminate()


@contextmanager
def bare(echo: int, bulk: int) -> Iterator[Client]:
    """
    No sandbox.
    """
    with _running([*_PYTHON, "127.0.0.1", str(echo), str(bulk)]) as client:
        yield client


def _jail(host: str) -> Callable[[int, int], Any]:
    @contextmanager
    def contender(echo: int, bulk: int) -> Iterator[Client]:
        rules = [f"127.0.0.1:{echo},{bulk}", f"bench.test:{echo},{bulk}"]
        limits: Any = {"network_connections": 2 * HELD, "open_files": 4096}
        with (
            jail.Sandbox(network=rules, resolver=lambda _name: ["127.0.0.1"], **limits) as box,
            box.popen(
                [*_PYTHON, host, str(echo), str(bulk)], stdin=jail.PIPE, stdout=jail.PIPE, text=True
            ) as process,
        ):
            assert process.stdin
            assert process.stdout
            yield Client(process.stdin, process.stdout)
            process.kill()

    return contender


@contextmanager
def pasta(echo: int, bulk: int) -> Iterator[Client]:
    """
    Its way to the host's loopback, which splices.
    """
    way = ["-t", "none", "-u", "none", "-U", "none", "-T", f"{echo},{bulk}"]
    command = ["pasta", "--foreground", "--config-net", *way, "--", *_PYTHON]
    with _running([*command, "127.0.0.1", str(echo), str(bulk)]) as client:
        yield client


@contextmanager
def slirp4netns(echo: int, bulk: int) -> Iterator[Client]:
    """
    Its address for the host, which goes through a tap device.
    """
    say = "echo $$; exec sleep 600"
    with ExitStack() as stack:
        command = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", say]
        holder = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
        stack.callback(holder.kill)
        if holder.stdout is None or not holder.stdout.readline():
            raise SkippedError("no network namespace")
        ready, ready_out = os.pipe()
        stack.callback(os.close, ready)
        command = [
            "slirp4netns",
            "--configure",
            "--mtu=65520",
            f"--ready-fd={ready_out}",
            str(holder.pid),
            "tap0",
        ]
        slirp = stack.enter_context(
            subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=[ready_out]
            )
        )
        stack.callback(slirp.kill)
        os.close(ready_out)
        if not os.read(ready, 1):
            raise SkippedError("slirp4netns has not begun")
        enter = ["nsenter", "--preserve-credentials", "-U", "-n", "-t", str(holder.pid), *_PYTHON]
        yield stack.enter_context(_running([*enter, "10.0.2.2", str(echo), str(bulk)]))


def _sandlock(python: str) -> Callable[[int, int], Any]:
    @contextmanager
    def contender(echo: int, bulk: int) -> Iterator[Client]:
        readable = ["/usr", "/lib", "/lib64", "/etc", "/proc", "/dev", str(Path(_PYTHON[0]).parents[1])]
        code = (
            f"import sandlock, sys; box = sandlock.Sandbox(fs_readable={readable}, max_open_files=4096, "
            f"net_allow=['127.0.0.1:{echo}', '127.0.0.1:{bulk}']); box.popen(sys.argv[1:]).wait()"
        )
        with _running([python, "-c", code, *_PYTHON, "127.0.0.1", str(echo), str(bulk)]) as client:
            yield client

    return contender


def _measure(clients: dict[str, Client], rounds: int) -> dict[str, dict[str, list[int]]]:
    samples: dict[str, dict[str, list[int]]] = {name: {task: [] for task in TASKS} for name in clients}
    order = random.Random(SEED)
    for _ in range(rounds):
        turns = [(name, task) for name in clients for task in TASKS]
        order.shuffle(turns)
        for name, task in turns:
            samples[name][task].append(clients[name].do(TASKS[task]))
    return samples


def _growth(client: Client) -> tuple[int, int]:
    """
    KiB that the harness has grown by over many connections, and over as many again.
    """
    readings = [_resident_kib()]
    for _ in range(2):
        client.do(f"connect {MANY}")
        readings.append(_resident_kib())
    return readings[1] - readings[0], readings[2] - readings[1]


def _resident_kib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024


def _row(name: str, samples: dict[str, list[int]], bare_connect: float, held: int) -> str:
    connect = statistics.median(samples["connect"]) / CONNECTIONS / 1000
    rates = [BYTES / statistics.median(samples[task]) for task in ("down", "up", "4 down")]
    shown = " ".join(f"{rate:8.2f}" for rate in rates)
    return f"{name:22}{connect:10.0f}{connect / bare_connect:8.2f} {shown}{held:8}"


def main() -> None:
    """
    Measure, and print.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--sandlock", metavar="PYTHON", help="an interpreter that has it")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    contenders: dict[str, Any] = {
        "bare loopback": bare,
        "jail, an address": _jail("127.0.0.1"),
        "jail, a name": _jail("bench.test"),
        "pasta": pasta,
        "slirp4netns": slirp4netns,
    }
    if args.sandlock:
        contenders["sandlock"] = _sandlock(args.sandlock)
    for key, value in describe_machine(args.rounds, 0.0).items():
        print(f"{key:9}{value}")
    with ExitStack() as stack:
        server = stack.enter_context(
            subprocess.Popen([sys.executable, "-I", "-c", SERVER], stdout=subprocess.PIPE, text=True)
        )
        stack.callback(server.kill)
        if server.stdout is None:
            raise RuntimeError("no pipe")
        echo, bulk = map(int, server.stdout.readline().split())
        clients: dict[str, Client] = {}
        for name, contender in contenders.items():
            try:
                clients[name] = stack.enter_context(contender(echo, bulk))
                clients[name].do("connect 20")
            except (SkippedError, OSError) as exc:
                clients.pop(name, None)
                print(f"{name:22}left out: {exc}")
        samples = _measure(clients, args.rounds)
        held = {name: client.do(f"hold {HELD}") for name, client in clients.items()}
        growth = _growth(clients["jail, a name"])
        bare_connect = statistics.median(samples["bare loopback"]["connect"]) / CONNECTIONS / 1000
        print(f"\n{'':22}{'µs/conn':>10}{'of bare':>8} {'GB/s in':>8} {'out':>8} {'4 in':>8}{'held':>8}")
        for name in clients:
            print(_row(name, samples[name], bare_connect, held[name]))
        print(
            f"\nthe harness grew by {growth[0]} KiB over {MANY} connections, and by {growth[1]} over as many again"
        )
    if args.json:
        Path(args.json).write_text(json.dumps({"samples": samples, "held": held, "growth_kib": growth}))


if __name__ == "__main__":
    os.environ.pop("PYTHONPATH", None)
    main()
