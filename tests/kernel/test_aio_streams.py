"""
What goes into a program and what comes out of it, for asyncio. `jail.onloop`
"""

import asyncio
import os
import subprocess
import sys

import pytest

import jail
import jail.aio

pytestmark = pytest.mark.needs("userns")

PYTHON = (sys.executable, "-I", "-S", "-c")
PATIENCE = 30.0  # seconds: what is awaited happens at once, and a test that waits in vain is to end


def run(main):
    """
    A coroutine function in a loop of its own, with a live sandbox, which is not to be late.
    """

    async def in_time():
        async with asyncio.timeout(PATIENCE), jail.aio.Sandbox() as box:
            return await main(box)

    return asyncio.run(in_time())


def test_back_pressure():
    """
    A write is done when the program has read, or the pipe has room; the loop goes on meanwhile.
    """

    async def main(box):
        code = "import sys; sys.stdin.buffer.readline(); print(len(sys.stdin.buffer.read()))"
        async with await box.popen([*PYTHON, code], stdin=jail.PIPE, stdout=jail.PIPE) as process:
            writing = asyncio.ensure_future(process.stdin.write(b"x" * 5_000_000))
            for _ in range(100):
                await asyncio.sleep(0)
            assert not writing.done()
            other = await box.run(["echo", "on"])
            process.kill()
            with pytest.raises(BrokenPipeError):
                await writing
        async with await box.popen([*PYTHON, code], stdin=jail.PIPE, stdout=jail.PIPE) as process:
            await process.stdin.write(b"\n" + b"x" * 5_000_000)
            process.stdin.close()
            return other.stdout, await process.stdout.read()

    assert (b"on\n", b"5000000\n") == run(main)


def test_input_and_output_at_once():
    """
    What is written comes back while it is written, whichever pipe is full; communicate does both.
    """
    sent = os.urandom(3 << 20)

    async def main(box):
        async with await box.popen("cat", stdin=jail.PIPE, stdout=jail.PIPE) as process:

            async def write():
                await process.stdin.write(sent)
                process.stdin.close()

            _, got = await asyncio.gather(write(), process.stdout.read())
        async with await box.popen("cat", stdin=jail.PIPE, stdout=jail.PIPE) as process:
            return got, (await process.communicate(sent))[0]

    assert (sent, sent) == run(main)


def test_communicate_in_time():
    """
    Communicate is over after its time, also with a program that does not read, and can be called again.
    """

    async def main(box):
        async with await box.popen(["sleep", "1000"], stdin=jail.PIPE) as process:
            async with asyncio.timeout(5):
                with pytest.raises(subprocess.TimeoutExpired):
                    await process.communicate(b"x" * 1_000_000, timeout=0.1)
            process.kill()
            return await process.wait()

    assert 137 == run(main)


def test_lines():
    """
    Lines come as they are written, the last without a newline, and then nothing; long ones are whole.
    """

    async def main(box):
        code = "import sys\nprint('one'); print('x' * 300_000); print('last', end='')"
        async with await box.popen([*PYTHON, code], stdout=jail.PIPE) as process:
            lines = [line async for line in process.stdout]
            rest = (
                await process.stdout.readline(),
                await process.stdout.read(),
                await process.stdout.read(5),
            )
        return [len(line) for line in lines], lines[-1], rest

    assert ([4, 300_001, 4], b"last", (b"", b"", b"")) == run(main)


def test_read():
    """
    A read gives at most as much as was asked for, as soon as there is any.
    """

    async def main(box):
        async with await box.popen("cat", stdin=jail.PIPE, stdout=jail.PIPE) as process:
            await process.stdin.write(b"abcdef")
            seen = [await process.stdout.read(4), await process.stdout.read(4)]
            process.stdin.close()
            return [*seen, await process.stdout.read(4), await process.stdout.read()]

    assert [b"abcd", b"ef", b"", b""] == run(main)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_cut_characters(encoding):
    """
    A character that comes in pieces is one, and characters are what is counted.
    """
    text = "ä€🐍\nß"

    async def main(box):
        code = "import os, sys\nfor b in sys.stdin.buffer.read(): os.write(1, bytes([b])); os.write(2, b'.')"
        async with await box.popen(
            [*PYTHON, code], stdin=-1, stdout=-1, stderr=-3, text=True, encoding=encoding
        ) as process:
            await process.stdin.write(text)
            process.stdin.close()
            first = await process.stdout.read(1)
            line = await process.stdout.readline()
            return first, line, await process.stdout.read()

    assert ("ä", "€🐍\n", "ß") == run(main)


def test_line_then_communicate():
    """
    What was read from the program and not yet given out is not lost to communicate.
    """

    async def main(box):
        async with await box.popen(["printf", r"a\nb\nc\n"], stdout=jail.PIPE) as process:
            await process.wait()
            return await process.stdout.readline(), (await process.communicate())[0]

    assert (b"a\n", b"b\nc\n") == run(main)


def test_two_readers():
    """
    Of two that read one stream neither waits for ever: both are served, or the second is refused.
    """

    async def main(box):
        async with await box.popen("cat", stdin=jail.PIPE, stdout=jail.PIPE) as process:
            reading = [asyncio.ensure_future(process.stdout.read(1)) for _ in range(2)]
            await asyncio.sleep(0)
            await process.stdin.write(b"xy")
            done, waiting = await asyncio.wait(reading, timeout=5)
            for task in waiting:
                task.cancel()
            return len(done)

    assert 2 == run(main)


def test_closed_while_it_is_read():
    """
    Whoever reads a stream that is closed meanwhile does not wait for ever, and its number is nobody else's.
    """

    async def main(box):
        async with await box.popen("cat", stdin=jail.PIPE, stdout=jail.PIPE) as process:
            reading = asyncio.ensure_future(process.stdout.read())
            await asyncio.sleep(0)
            process.stdout.close()
            done, _ = await asyncio.wait([reading], timeout=5)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            return len(done)

    assert 1 == run(main)


def test_closed():
    """
    A closed stream is a ValueError to whoever uses it, as a closed file is.
    """

    async def main(box):
        async with await box.popen("cat", stdin=jail.PIPE, stdout=jail.PIPE) as process:
            process.close()
            assert process.stdin.closed
            assert process.stdout.closed
            for use in (lambda: process.stdin.write(b"x"), process.stdout.read, process.stdout.readline):
                with pytest.raises(ValueError):
                    await use()

    run(main)


@pytest.mark.parametrize("call", ["run", "popen"])
def test_exception_in_a_callback(call):
    """
    What a caller's function raises ends the program, and is raised where its end is awaited.
    """

    def callback(piece):
        raise KeyError(piece)

    async def main(box):
        with pytest.raises(KeyError, match="up"):
            if call == "run":
                await box.run("echo up; sleep 1000", shell=True, on_stdout=callback)
            else:
                process = await box.popen("echo up; sleep 1000", shell=True, on_stdout=callback)
                await process.wait()
        return (await box.run(["echo", "hi"])).stdout

    assert b"hi\n" == run(main)


def test_missing_program():
    """
    What cannot be started is a SetupError, and leaves no descriptor.
    """

    async def main(box):
        await box.run(["true"])
        before = os.listdir("/proc/self/fd")
        with pytest.raises(jail.SetupError, match="ENOENT"):
            await box.popen("no-such-program", stdin=-1, stdout=-1, stderr=-1)
        assert () == box.processes
        return before == os.listdir("/proc/self/fd")

    assert run(main)
