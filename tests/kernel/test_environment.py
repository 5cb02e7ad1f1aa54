"""
Which variables a program starts with. environ(7)
"""

import os
import pwd

import pytest

import jail

pytestmark = pytest.mark.needs("userns")

VARIABLES = "import json, os; print(json.dumps(dict(os.environ)))"
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

    assert ALWAYS | passed == set(seen) - {"LC_CTYPE"}  # which Python sets itself, PEP 538
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
    name = "jail" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    home = jail.probe().home

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
