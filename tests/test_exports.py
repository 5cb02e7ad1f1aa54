"""
What `import jail` offers. Each public name is listed, documented and found.
"""

import importlib
import pkgutil
import subprocess
import sys
import types

import pytest

import jail

PASSED_OVER = {"__main__", "_core"}  # runs when imported; generated, and described in boundary.h
MODULES = sorted({m.name for m in pkgutil.iter_modules(jail.__path__) if not m.ispkg} - PASSED_OVER)


def own_docstring(value):
    """
    The docstring that somebody wrote: none that is inherited, nor the signature that dataclass() puts there.
    """
    if not isinstance(value, type):
        return value.__doc__
    text = vars(value).get("__doc__") or ""
    return "" if text.startswith(f"{value.__name__}(") else text


def test_all_is_sorted():
    """
    Exported names stand in order, constants first, each once.
    """
    assert sorted(set(jail.__all__), key=lambda name: (not name.isupper(), name)) == jail.__all__


@pytest.mark.parametrize("name", jail.__all__)
def test_export_is_documented(name):
    """
    Each exported name exists and has a docstring of its own; an alias of types has exported ones as its members.
    """
    value = getattr(jail, name)
    if isinstance(value, types.UnionType):
        assert set() == {member.__name__ for member in value.__args__} - set(jail.__all__)
    else:
        assert own_docstring(value)


@pytest.mark.parametrize("name", jail.__all__)
def test_public_members_are_documented(name):
    """
    So has each public method and property that an exported class defines itself.
    """
    value = getattr(jail, name)
    members = vars(value).items() if isinstance(value, type) else ()
    kinds = (types.FunctionType, classmethod, staticmethod, property)
    public = {key: member for key, member in members if key[0] != "_" and isinstance(member, kinds)}

    assert [] == [key for key, member in public.items() if not member.__doc__]


@pytest.mark.parametrize("module", MODULES)
def test_module_says_what_it_is(module):
    """
    Each module has a docstring, and what it lists in __all__ exists.
    """
    loaded = importlib.import_module(f"jail.{module}")

    assert loaded.__doc__
    assert [] == [name for name in loaded.__all__ if not hasattr(loaded, name)]


def test_import_prints_nothing_and_starts_nothing():
    """
    Importing is silent, loads nothing heavy, and leaves no thread and no child.
    """
    code = (
        "import sys, threading, os; before = set(os.listdir('/proc/self/fd')); import jail; "
        "heavy = {'asyncio', 'curses', 'dns', 'idna', 'importlib.resources', 'matplotlib', 'multiprocessing', 'numpy', "
        "'psutil', 'subprocess', 'tomllib'}; "
        "print(sorted(heavy & set(sys.modules)), threading.active_count(), "
        "set(os.listdir('/proc/self/fd')) == before)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, check=False, text=True)

    assert ("[] 1 True\n", "") == (done.stdout, done.stderr)
