"""
Runs for the tests of reports, made of the library's own values and no program.
"""

from dataclasses import replace

from jail.guarantee import Guarantee, Strength
from jail.outcome import Exited
from jail.result import Output, Result
from jail.timeline import Timeline
from jail.usage import Pressure, Usage

USAGE = Usage(
    wall_seconds=4.5,
    user_seconds=1.25,
    system_seconds=0.25,
    memory_peak_bytes=217_989_120,
    setup={"spawn": 0.003, "build": 0.001},
    sources={"wall_seconds": "clock_gettime(2)", "memory_peak_bytes": "cgroup memory.peak"},
)

# With a figure for each field.
WHOLE = replace(
    USAGE,
    read_bytes=4096,
    written_bytes=8192,
    processes_started=12,
    processes_peak=3,
    voluntary_switches=1234,
    involuntary_switches=56,
    minor_faults=789,
    major_faults=1,
    disk_peak_bytes=16384,
    throttled_seconds=0.75,
    pressure=Pressure(cpu_seconds=0.5, memory_seconds=0.0, io_seconds=0.25),
    network_bytes=2048,
    output_bytes=33,
)

GUARANTEES = (
    Guarantee("network", "network namespace", Strength.KERNEL, "there is no interface but lo"),
    Guarantee("memory", "jail-init, who looks at /proc", Strength.SUPERVISED, "at most 268435456 bytes"),
    Guarantee("pids", "", Strength.NONE, "the number of processes is not bounded"),
)


def timeline(samples=40, interval=0.1, peak_bytes=200 << 20):
    """
    A run that takes memory until the end, keeps half a processor busy, and has one to four processes.
    """
    made = Timeline(interval)
    for number in range(1, samples + 1):
        made.add(interval * number, peak_bytes * number // samples, interval * number / 2, 1 + number % 4)
    return made


def result(**fields):
    """
    A run of ``/bin/true``, or what these fields make of it.
    """
    made = Result(
        args=("/bin/true",),
        outcome=Exited(0),
        stdout=Output(),
        stderr=Output(),
        usage=USAGE,
        guarantees=GUARANTEES,
    )
    return replace(made, **fields)
