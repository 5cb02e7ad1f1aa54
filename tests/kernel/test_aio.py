"""
The same for asyncio: the names, and how much goes on at once. `jail.aio`
"""

import asyncio
import inspect
import sys
import threading

import pytest

import jail
import jail.aio

pytestmark = pytest.mark.needs("userns")

PYTHON = (sys.executable, "-I", "-S", "-c")
PATIENCE = 30.0  # seconds: what is awaited happens at once, and a test that waits in vain is to end


def run(main):
    """
    A coroutine function in a loop of its own, which is not to be late.
    """

    async def in_time():
        async with asyncio.timeout(PATIENCE):
            return await main()

    return asyncio.run(in_time())


def public(cls):
    """
    The parameters of each public method of a class; None for a property.
    """
    found = {}
    for name in dir(cls):
        value = inspect.getattr_static(cls, name)
        if name[0] != "_":
            found[name] = tuple(inspect.signature(value).parameters.values()) if callable(value) else None
    return {
        name: parameters and [(p.name, p.kind, p.default, p.annotation) for p in parameters]
        for name, parameters in found.items()
    }


@pytest.mark.parametrize("name", ["Sandbox", "Process"])
def test_same_names(name):
    """
    Both classes have the same public names, and their methods the same parameters with the same defaults.
    """
    mine, theirs = public(getattr(jail.aio, name)), public(getattr(jail, name))

    assert theirs.keys() == mine.keys()
    assert theirs == mine
    assert inspect.signature(getattr(jail, name)).parameters.keys() == (
        inspect.signature(getattr(jail.aio, name)).parameters.keys()
    )


def test_same_run():
    """
    So has run, and so have the instances of both classes the same attributes.
    """
    mine, theirs = inspect.signature(jail.aio.run), inspect.signature(jail.run)
    given = [str(p).replace(" | AskLater", "") for p in mine.parameters.values()]  # the same, awaited
    assert [str(p) for p in theirs.parameters.values()] == given

    async def attributes():
        async with jail.aio.Sandbox() as box, await box.popen("true") as process:
            return {name for name in vars(process) if name[0] != "_"}

    with jail.Sandbox() as box, box.popen("true") as process:
        assert {name for name in vars(process) if name[0] != "_"} == run(attributes)


def test_one_shot():
    """
    A run in a sandbox of its own gives what jail.run gives, and raises what it raises.
    """

    async def main():
        result = await jail.aio.run(["sh", "-c", "cat; exit 3"], input=b"in", text=True)
        with pytest.raises(jail.ProgramError):
            await jail.aio.run("false", check=True)
        with pytest.raises(jail.SetupError, match="ENOENT"):
            await jail.aio.run("no-such-program")
        timed_out = await jail.aio.run(["sleep", "1000"], timeout=0.1)
        return result.exit_code, result.stdout, timed_out.outcome

    assert (3, "in", jail.TimedOut(0.1)) == run(main)


def test_fifty_at_once():
    """
    Fifty runs at once each give their own output, and no thread is started for any.
    """

    async def main():
        async with jail.aio.Sandbox() as box:
            results = await asyncio.gather(*(box.run(["echo", str(n)]) for n in range(50)))
            process = await box.popen("cat", stdin=jail.PIPE, stdout=jail.PIPE)
            threads = threading.active_count()
            await process.communicate(b"x")
        return [int(result.stdout) for result in results], threads

    before = threading.active_count()

    assert ([*range(50)], before) == run(main)


def test_two_loops():
    """
    Two loops in two threads each have sandboxes of their own.
    """
    seen = []

    async def main():
        async with jail.aio.Sandbox() as box:
            for _ in range(20):
                result, process = await asyncio.gather(box.run(["echo", "x"]), box.popen("cat", stdin=-1))
                async with process:
                    seen.append(result.stdout)

    threads = [threading.Thread(target=run, args=(main,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [b"x\n"] * 40 == seen


def test_loop_goes_on():
    """
    While a program writes a gigabyte, of which little is kept, the loop's other tasks go on.
    """

    async def main():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.ensure_future(tick())
        async with jail.aio.Sandbox() as box:
            result = await box.run(["head", "-c", str(1 << 30), "/dev/zero"], output_limit=1000)
        ticking.cancel()
        return len(result.stdout) < 2000, ticks

    is_short, ticks = run(main)

    assert is_short
    assert 10 <= ticks


def test_files():
    """
    Files are read and written as with `jail.Sandbox`.
    """

    async def main():
        async with jail.aio.Sandbox() as box:
            await box.write_file("a/f", "text", parents=True)
            with pytest.raises(FileNotFoundError):
                await box.read_file("nowhere")
            return await asyncio.gather(box.read_file("a/f"), box.exists("a"), box.list("a"))

    content, exists, (entry,) = run(main)

    assert (b"text", True, "f", 4) == (content, exists, entry.name, entry.size)
