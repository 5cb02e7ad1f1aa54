"""
What a call leaves that is cancelled, and a sandbox that is closed, for asyncio. `jail.aio`
"""

import asyncio
import gc
import os
import subprocess
import sys
import uuid

import pytest

import jail
import jail.aio

pytestmark = pytest.mark.needs("userns")

PYTHON = (sys.executable, "-I", "-S", "-c")
PATIENCE = 30.0  # seconds: what is awaited happens at once, and a test that waits in vain is to end

# Starts a daemon with the same marker, which says so, and waits.
DAEMON = "setsid sh -c 'echo up; sleep 1000; :' {} & wait"


@pytest.fixture
def marker():
    """
    An argument that no other process has.
    """
    return str(uuid.uuid4())


def daemon(marker):
    """
    A program that leaves a daemon behind, both with this marker.
    """
    return ["sh", "-c", DAEMON.format(marker), marker]


def run(main):
    """
    A coroutine function in a loop of its own, which is not to be late.
    """

    async def in_time():
        async with asyncio.timeout(PATIENCE):
            return await main()

    return asyncio.run(in_time())


@pytest.mark.parametrize("by", ["cancel", "timeout"])
@pytest.mark.parametrize("call", ["run", "aio.run"])
def test_cancelled_run(call, by, marker, eyes):
    """
    A run that is cancelled, or out of time, kills what it started, daemons included, and nothing else.
    """

    async def main():
        up, other = asyncio.Event(), str(uuid.uuid4())
        async with jail.aio.Sandbox() as box:
            beside = await box.popen(daemon(other), stdout=jail.PIPE)
            await beside.stdout.readline()
            before = len(os.listdir("/proc/self/fd"))
            start = box.run if call == "run" else jail.aio.run
            task = asyncio.ensure_future(start(daemon(marker), on_stdout=lambda _: up.set()))
            await up.wait()
            inside = {pid: os.pidfd_open(pid) for pid in eyes.named(marker)}
            assert 2 <= len(inside)
            if by == "cancel":
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await task
            assert [] == eyes.survivors(inside)
            assert [] == eyes.named(marker)
            assert 2 == len(eyes.named(other))
            assert b"hi\n" == (await box.run(["echo", "hi"])).stdout
            assert before == len(os.listdir("/proc/self/fd"))
            beside.close()

    run(main)


@pytest.mark.parametrize("turns", range(4))
def test_cancelled_popen(turns, marker, eyes):
    """
    So does a start that is cancelled, whenever that is, and neither leaves a descriptor.
    """

    async def main():
        async with jail.aio.Sandbox() as box:
            await box.run(["true"])
            before = len(os.listdir("/proc/self/fd"))
            task = asyncio.ensure_future(box.popen(daemon(marker), stdin=-1, stdout=-1, stderr=-1))
            for _ in range(turns):
                await asyncio.sleep(0)
            if not task.done():
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                del task
                await box.run(["true"])
                assert 0 == len(box.processes)
                left = {pid: os.pidfd_open(pid) for pid in eyes.named(marker)}
                assert [] == eyes.survivors(left)
                assert before == len(os.listdir("/proc/self/fd"))

    run(main)


@pytest.mark.parametrize("call", ["wait", "result", "communicate"])
def test_cancelled_wait(call, marker, eyes):
    """
    A wait that is cancelled, or out of time, lets the program go on, as subprocess does; it can be awaited again.
    """

    async def main():
        async with jail.aio.Sandbox() as box:
            process = await box.popen(daemon(marker), stdout=jail.PIPE)
            assert b"up\n" == await process.stdout.readline()
            task = asyncio.ensure_future(getattr(process, call)())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(subprocess.TimeoutExpired):
                await getattr(process, call)(timeout=0.01)
            assert None is process.poll()
            assert (process,) == box.processes
            inside = {pid: os.pidfd_open(pid) for pid in eyes.named(marker)}
            process.kill()
            assert 137 == await process.wait()
            assert [] == eyes.survivors(inside)
            process.close()

    run(main)


def test_close_while_programs_run(marker, eyes):
    """
    Closing ends what runs, tells whoever waits for it, and may be asked for by two at once.
    """

    async def main():
        async with jail.aio.Sandbox() as box:
            process = await box.popen(daemon(marker), stdout=jail.PIPE)
            await process.stdout.readline()
            running = asyncio.ensure_future(box.run(["sleep", "1000"]))
            waiting = asyncio.ensure_future(process.wait())
            await asyncio.sleep(0)
            async with asyncio.timeout(5):
                await asyncio.gather(box.close(), box.close())
            assert [] == eyes.named(marker)
            with pytest.raises(jail.JailError):
                await running
            with pytest.raises(jail.JailError, match="closed"):
                await box.run(["true"])
            process.close()
            return await waiting, process.outcome

    assert (137, jail.Killed()) == run(main)


def test_cancelled_close(marker, eyes):
    """
    A close that is cancelled can be asked for again, and leaves no task behind.
    """

    async def main():
        before = asyncio.all_tasks()
        box = jail.aio.Sandbox()
        await box.run(["sh", "-c", f"setsid sh -c 'sleep 1000; :' {marker} & :"])
        closing = asyncio.ensure_future(box.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await box.close()
        await asyncio.sleep(0)
        assert before == asyncio.all_tasks()

    run(main)
    assert [] == eyes.named(marker)


def test_closed_loop(marker, eyes):
    """
    A sandbox that outlives its loop, with a program in it, ends when it is collected.
    """

    async def main():
        box = jail.aio.Sandbox()
        process = await box.popen(daemon(marker), stdin=jail.PIPE, stdout=jail.PIPE)
        assert b"up\n" == await process.stdout.readline()
        return box, process

    kept = run(main)
    assert 2 <= len(eyes.named(marker))
    inside = {pid: os.pidfd_open(pid) for pid in eyes.named(marker)}
    del kept
    gc.collect()

    assert [] == eyes.survivors(inside)
