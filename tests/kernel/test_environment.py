"""
Which arguments and variables a program starts with. environ(7)
"""

import errno
import json
import os
import sys

import pytest

import jail

pytestmark = pytest.mark.needs("userns")

PYTHON = (sys.executable, "-I", "-S", "-c")
VARIABLES = "import json, os; print(json.dumps(dict(os.environ)))"
ARGUMENTS = "import json, os, sys; print(json.dumps([os.fsencode(arg).hex() for arg in sys.argv[1:]]))"
BYTES = "import json, os; print(json.dumps({n.hex(): v.hex() for n, v in os.environb.items()}))"
ALWAYS = {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR"}


def test_nothing_unasked(inside, monkeypatch):
    """
    Of the harness's variables only those that the profile names arrive.
    """
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("LD_PRELOAD_NOT", "1")
    monkeypatch.setenv("LANG", "C.UTF-8")
    passed = set(jail.load_policy("default").pass_env) & set(os.environ)
    seen = inside(VARIABLES)

    assert (ALWAYS | passed) - {"LC_CTYPE"} == set(seen) - {"LC_CTYPE"}  # which Python sets itself, PEP 538
    assert "C.UTF-8" == seen["LANG"]


def test_pass_and_set(inside, monkeypatch):
    """
    pass_env copies what the caller has, env sets, and env wins; what he has not stays absent.
    """
    monkeypatch.setenv("COPIED", "from the caller")
    monkeypatch.setenv("BOTH", "from the caller")
    monkeypatch.delenv("ABSENT", raising=False)
    seen = inside(VARIABLES, pass_env=["COPIED", "BOTH", "ABSENT"], env={"BOTH": "policy", "HOME": "/tmp"})

    assert ("from the caller", "policy", "/tmp") == (seen["COPIED"], seen["BOTH"], seen["HOME"])
    assert "ABSENT" not in seen


def test_who_and_where(inside):
    """
    What is always set agrees with what is inside: the home and temporary directory are there and writable.
    """
    code = """
import json, os, pwd
for name in ("HOME", "TMPDIR"):
    open(os.environ[name] + "/f", "w").close()
assert os.access(os.environ["SHELL"], os.X_OK)
print(json.dumps([os.getcwd(), os.environ["HOME"], pwd.getpwuid(os.getuid()).pw_name, os.environ["USER"], os.environ["LOGNAME"]]))
"""
    host = jail.probe()
    name = host.user if host.uid and host.user else "jail"
    home = host.home if host.home != "/" else "/home/jail"

    assert [home, home, name, name, name] == inside(code)


def test_path(inside):
    """
    PATH has no directory of the caller's, and finds the running interpreter first where that is shown.
    """
    code = (
        "import json, os, shutil; print(json.dumps([shutil.which('python3'), os.environ['PATH'].split(':')]))"
    )
    python, path = inside(code)

    assert f"{jail.probe().bin_directory}/python3" == python
    assert [] == [place for place in path if place.startswith("~") or not place.startswith("/")]


def test_of_one_run(inside):
    """
    Variables of one run are not those of the next.
    """
    with jail.Sandbox() as box:
        assert b"1\n" == box.run("echo $ONCE", shell=True, env={"ONCE": "1"}).stdout
        assert b"\n" == box.run("echo $ONCE", shell=True).stdout


def test_harness_is_unchanged(inside):
    """
    The harness's own environment stays as it is.
    """
    before = dict(os.environ)
    inside(VARIABLES, env={"PATH": "/usr/bin:/bin", "NEW": "1"})

    assert before == dict(os.environ)


def test_arguments(inside):
    """
    Arguments arrive byte for byte: empty ones, bytes that are no text, and a great many.
    """
    args = [b"", b" ", b"\xff\xfe", "ünï".encode(), b"a\nb", b"-c", b"$HOME", b""]
    for sent in (args, [b"%d" % number for number in range(20000)]):
        result = jail.run([*PYTHON, ARGUMENTS, *sent])
        assert [arg.hex() for arg in sent] == json.loads(result.stdout)


def test_variables():
    """
    Variables arrive byte for byte, and those of the run win.
    """
    sent = {"EMPTY": "", "TEXT": "ünï\n=", "NO_TEXT": os.fsdecode(b"\xff\xfe"), "BOTH": "run"}
    with jail.Sandbox(env={"BOTH": "policy", "POLICY": "1"}) as box:
        got = json.loads(box.run([*PYTHON, BYTES], env=sent).stdout)

    expected = {
        name.encode().hex(): os.fsencode(value).hex() for name, value in {**sent, "POLICY": "1"}.items()
    }
    assert expected == {name: got[name] for name in expected}


def test_large_environment():
    """
    A megabyte of environment arrives; a single variable beyond the kernel's limit is E2BIG.
    """
    sent = {f"V{number}": "x" * 100_000 for number in range(11)}
    with jail.Sandbox() as box:
        got = json.loads(box.run([*PYTHON, BYTES], env=sent).stdout)
        with pytest.raises(jail.SetupError) as caught:
            box.run(["true"], env={"V": "x" * (1 << 18)})  # MAX_ARG_STRLEN is 32 pages

    assert [100_000] * 11 == [len(got[name.encode().hex()]) // 2 for name in sent]
    assert errno.E2BIG == caught.value.errno
