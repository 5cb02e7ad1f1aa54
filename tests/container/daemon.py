"""
A dockerd of one's own, which ends with whoever started it and leaves nothing.

It has mounts, processes and a network of its own. So all that it starts, shims and containers included, ends
with it however it ends, and nothing that it mounts or writes to /run, /etc and /opt is ever there for others.
What those namespaces do not hold are its cgroups, and its images, which are kept in a cache.

Source: unshare(1), setpriv(1), dockerd(8), pid_namespaces(7).
"""

import os
import re
import shutil
import signal
import subprocess
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["Docker", "NoDaemon", "started"]

START_SECONDS = 60
STOP_SECONDS = 30
NAME = "jail-test-container"
TEMPORARY = Path("/var/tmp")  # short: the name of a socket begins with it
CGROUPS = Path("/sys/fs/cgroup")

# In its own mount namespace. /run: sockets of shims and plugins; /etc: a key; /opt: containerd's plugins.
PRIVATE = """
mount -t tmpfs -o mode=755 tmpfs /run
for place in /etc /opt; do
    mkdir -p "/run/above$place" "/run/work$place"
    mount -t overlay -o "lowerdir=$place,upperdir=/run/above$place,workdir=/run/work$place" overlay "$place"
done
exec "$@"
"""

# No bridge, no rules, no forwarding: containers have no network, and the host's stays as it is.
OPTIONS = (
    "--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--userland-proxy=false",
    "--storage-driver=overlay2", "--exec-opt=native.cgroupdriver=cgroupfs",
)  # fmt: skip


class NoDaemon(Exception):
    """
    dockerd cannot be had here, and why.
    """


class Docker:
    """
    The client of one daemon.

    Args:
        place: a directory of the daemon's own, short enough for the name of a socket.
    """

    def __init__(self, place):
        self.place = place
        self.bundles = place / "exec/containerd/daemon/io.containerd.runtime.v2.task/moby"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
        self.environment = {**kept, "DOCKER_CONFIG": str(place / "client")}

    def command(self, *words):
        """
        A command line of docker(1).
        """
        return ["docker", f"--host=unix://{self.place}/socket", *map(str, words)]

    def run(self, *words, **options):
        """
        Run it to its end. What it cannot do is an exception.
        """
        return subprocess.run(self.command(*words), check=True, env=self.environment, **options)

    def ask(self, *words, **options):
        """
        The same, for what it prints.
        """
        return self.run(*words, stdout=subprocess.PIPE, text=True, **options).stdout.strip()

    def has_image(self, name):
        """
        Whether an image is in the cache.
        """
        return bool(self.ask("image", "ls", "--quiet", name))


@contextmanager
def started(data):
    """
    A daemon for the length of a with statement, as its `Docker`.

    Args:
        data: the directory where images are kept from one time to the next.

    Raises:
        NoDaemon: there is none to be had, and why.
    """
    for program in ("dockerd", "docker", "containerd", "runc"):
        if not any(os.access(f"{place}/{program}", os.X_OK) for place in os.get_exec_path()):
            raise NoDaemon(f"{program} is not installed; to have it: tools/install-packages container")
    if os.geteuid() != 0:
        raise NoDaemon("dockerd needs root, and this is not; with it: sudo make test-container")
    sweep()
    place = TEMPORARY / f"{NAME}-{os.getpid()}"
    place.mkdir(mode=0o700)
    try:
        running = _Running(place, data.resolve())
        try:
            running.await_ready()
            yield Docker(place)
        finally:
            running.stop()
    finally:
        sweep()
    if left := {at for at in mounted() for ours in (place, data.resolve()) if Path(at).is_relative_to(ours)}:
        raise AssertionError(f"left mounted: {sorted(left)}")


class _Running:
    """
    The daemon's process, and what it has said so far.
    """

    def __init__(self, place, data):
        self.said = []
        self.settled = threading.Event()
        self.is_ready = False
        (place / "config").write_text("{}\n")  # and not this machine's
        self.process = subprocess.Popen(
            [
                # The first ends the second when we end, the second all the rest.
                "setpriv", "--pdeathsig=KILL",
                "unshare", "--mount", "--propagation=private", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
                "sh", "-euc", PRIVATE, "sh",
                "dockerd", *OPTIONS, f"--config-file={place}/config", f"--cgroup-parent=/{NAME}-{os.getpid()}",
                f"--data-root={data}", f"--exec-root={place}/exec", f"--pidfile={place}/pid",
                f"--host=unix://{place}/socket",
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        self.reader = threading.Thread(target=self._listen, daemon=True)
        self.reader.start()

    def _listen(self):
        for line in self.process.stdout:
            self.said.append(line)
            if "API listen on" in line:
                self.is_ready = True
                self.settled.set()
        self.settled.set()

    def await_ready(self):
        """
        Return when it answers.
        """
        self.settled.wait(START_SECONDS)
        if not self.is_ready:
            state = "does not answer" if self.process.poll() is None else "does not start"
            raise NoDaemon(f"dockerd {state} here. It said:\n{complaints(self.said)}")

    def stop(self):
        """
        Have it end in order, or else end it.
        """
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        if self.process.poll() is None:
            for pid in children.read_text().split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.join()
        self.process.stdout.close()


def complaints(lines):
    """
    Of a daemon's log what tells why it failed, or all of it where no line does.
    """
    bad = [line for line in lines if not re.search(r"level=(info|debug|warning)", line)]
    return "".join(bad[-10:] or lines[-10:]) or "nothing\n"


def mounted():
    """
    The places where something is mounted for us.
    """
    return {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}


def sweep():
    """
    Remove directories and cgroups of this runner, and of those that were killed.
    """
    for place in [*TEMPORARY.glob(f"{NAME}-*"), *CGROUPS.glob(f"{NAME}-*"), *CGROUPS.glob(f"*/{NAME}-*")]:
        owner = place.name.rpartition("-")[2]
        if owner != str(os.getpid()) and Path(f"/proc/{owner}").exists():
            continue
        if place.parent == TEMPORARY:
            shutil.rmtree(place)
        else:
            for directory, _, _ in os.walk(place, topdown=False):
                os.rmdir(directory)
