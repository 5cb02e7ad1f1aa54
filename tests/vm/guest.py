"""
One guest: boots a kernel with a job, and brings back how the job ended and what it left.

Disks: the root file system (its changes are thrown away), the job as a tar, room for the results as a tar. The
console is the guest's standard output, and its last line is the exit status.
"""

import os
import re
import subprocess
import tarfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

MEMORY = "2G"
RESULTS_BYTES = 64 << 20

_ENDED = re.compile(rb"^jail-vm: ended with (\d+)\r?$", re.MULTILINE)
_TRIAL_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Ending:
    """
    How a guest ended.

    Args:
        status: pytest's, or None where the guest did not get to say it.
        seconds: from its start to its end.
        timed_out: whether it was killed because it took longer than it may.
    """

    status: int | None
    seconds: float
    timed_out: bool


def boot(command, console, *, seconds, echo=False):
    """
    Run a guest to its end.

    Args:
        command: that starts it.
        console: the file to write what it prints to.
        seconds: it is killed after.
        echo: print what it prints, too.
    """
    started = time.monotonic()
    expired = threading.Event()
    with (
        console.open("wb") as log,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process,
    ):
        timer = threading.Timer(seconds, lambda: (expired.set(), process.kill()))
        timer.start()
        try:
            for line in process.stdout:
                log.write(line)
                log.flush()
                if echo:
                    print(line.decode(errors="replace").rstrip("\r\n"), flush=True)
            process.wait()
        finally:
            timer.cancel()
            process.kill()
    ended = _ENDED.findall(console.read_bytes())
    return Ending(int(ended[-1]) if ended else None, time.monotonic() - started, expired.is_set())


def command(kernel, accelerator, *, append="", drives=()):
    """
    What starts a guest. It has one processor, no network, and nothing else that it was not given.

    Args:
        kernel: a `Kernel`.
        accelerator: "kvm" or "tcg".
        append: to the kernel's command line.
        drives: in order, each as after qemu's -drive.
    """
    processor = "host" if accelerator == "kvm" else "max"
    arguments = f"console=ttyS0 panic=-1 mitigations=off loglevel=4 systemd.show_status=no {append}"
    return [
        *f"qemu-system-x86_64 -machine q35,accel={accelerator} -cpu {processor} -m {MEMORY} -smp 1".split(),
        *"-nodefaults -no-user-config -no-reboot -display none -serial stdio".split(),
        *("-kernel", kernel.image, "-initrd", kernel.initramfs, "-append", arguments),
        *(word for drive in drives for word in ("-drive", f"if=virtio,format=raw,{drive}")),
    ]


def choose_accelerator(kernel, work):
    """
    "kvm" where a guest really comes up with it, or else "tcg".

    /dev/kvm may be there, open, and run nothing: only a trial tells.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    trial = boot(command(kernel, "kvm", append="jail.trial"), work / "trial-of-kvm", seconds=_TRIAL_SECONDS)
    return "kvm" if trial.status == 0 else "tcg"


@dataclass(frozen=True, slots=True)
class Guests:
    """
    What the guests of one matrix have in common.

    Args:
        accelerator: as `choose_accelerator` gives it.
        image: of the root file system.
        seconds: each is killed after.
        echo: print its console.
    """

    accelerator: str
    image: Path
    seconds: float
    echo: bool

    def run(self, kernel, job, place):
        """
        Boot a guest with a job, and unpack its results.

        Args:
            kernel: a `Kernel`.
            job: a tar, as `job.write_job` makes it.
            place: a directory, for ``console`` and ``results``.

        Returns:
            An `Ending`.
        """
        disk = place / "results.tar"
        with disk.open("wb") as file:
            file.truncate(RESULTS_BYTES)
        drives = (f"snapshot=on,file={self.image}", f"readonly=on,file={job}", f"file={disk}")
        ending = boot(
            command(kernel, self.accelerator, drives=drives),
            place / "console",
            seconds=self.seconds,
            echo=self.echo,
        )
        if ending.status is not None:
            _unpack(disk, place / "results")
        disk.unlink()
        return ending


def _unpack(disk, place):
    """
    Its files alone, under their last names: nothing else is to come from a guest.
    """
    place.mkdir()
    with tarfile.open(disk) as archive:
        for member in archive:
            if member.isfile():
                (place / Path(member.name).name).write_bytes(archive.extractfile(member).read())
