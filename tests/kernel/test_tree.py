"""
Rules within rules: which decides, what is hidden, and how a path may be spelled. `csrc/tree.c`
"""

import errno
import itertools
import os

import pytest

import jail

pytestmark = pytest.mark.needs("userns")

# Each does something with argv[1], and argv[2] is the tree it is in: code, errno in a read and in a write tree.
ON_HIDDEN = {
    "open": ("os.close(os.open(sys.argv[1], os.O_RDONLY))", errno.EACCES, errno.EACCES),
    "chmod": ("os.chmod(sys.argv[1], 0o777)", errno.EROFS, errno.EROFS),
    "utime": ("os.utime(sys.argv[1])", errno.EROFS, errno.EROFS),
    "rename": ("os.rename(sys.argv[1], sys.argv[2] + '/new')", errno.EROFS, errno.EBUSY),
    "replace": ("os.rename(sys.argv[2] + '/spare', sys.argv[1])", errno.EROFS, errno.EBUSY),
    "unlink": ("os.unlink(sys.argv[1])", errno.EROFS, errno.EBUSY),
}
# Since Linux 6.14 vfs_truncate() asks for permission first, and for the mount to be writable then.
LINUX = tuple(map(int, jail.probe().kernel.split(".")[:2]))
TRUNCATE = errno.EACCES if LINUX >= (6, 14) else errno.EROFS
ON_HIDDEN_FILE = ON_HIDDEN | {
    "link": ("os.link(sys.argv[1], sys.argv[2] + '/new')", errno.EROFS, errno.EXDEV),
    "truncate": ("os.truncate(sys.argv[1], 0)", TRUNCATE, TRUNCATE),
}
ON_HIDDEN_DIRECTORY = ON_HIDDEN | {
    "list": ("os.listdir(sys.argv[1])", errno.EACCES, errno.EACCES),
    "enter": ("os.chdir(sys.argv[1])", errno.EACCES, errno.EACCES),
    "read in it": ("open(sys.argv[1] + '/f')", errno.EACCES, errno.EACCES),
    "create in it": ("open(sys.argv[1] + '/new', 'w')", errno.EACCES, errno.EACCES),
    "unlink": ("os.rmdir(sys.argv[1])", errno.EROFS, errno.EBUSY),
}

RENAME = "os.rename(sys.argv[1], sys.argv[1] + '-moved')"


@pytest.fixture
def hideable(tree):
    """
    A tree with ``secret``, ``spare`` beside it, and ``secrets`` with a file ``f`` in it.
    """
    (tree / "secret").write_text("secret")
    (tree / "spare").write_text("spare")
    (tree / "secrets").mkdir()
    (tree / "secrets/f").write_text("secret")
    return tree


@pytest.mark.parametrize("act", ON_HIDDEN_FILE)
def test_hidden_file(act, hideable, attempt):
    """
    A denied file can be neither opened nor changed, moved, replaced, linked or removed; one beside it can.
    """
    code, in_read, in_write = ON_HIDDEN_FILE[act]
    secret, open_one = hideable / "secret", hideable / "f"

    assert in_read == attempt(code, secret, hideable, read=[hideable], deny=[secret])
    assert in_write == attempt(code, secret, hideable, write=[hideable], deny=[secret])
    assert "secret" == secret.read_text()
    assert 0 == attempt(code, open_one, hideable, write=[hideable], deny=[secret])


@pytest.mark.parametrize("act", ON_HIDDEN_DIRECTORY)
def test_hidden_directory(act, hideable, attempt):
    """
    A denied directory can be neither listed nor entered, moved, replaced or removed; without the deny it can.
    """
    code, in_read, in_write = ON_HIDDEN_DIRECTORY[act]
    secrets = hideable / "secrets"
    if act == "replace":
        (hideable / "spare").unlink()
        (hideable / "spare").mkdir()

    assert in_read == attempt(code, secrets, hideable, read=[hideable], deny=[secrets])
    assert in_write == attempt(code, secrets, hideable, write=[hideable], deny=[secrets])
    assert "secret" == (secrets / "f").read_text()
    if act in ("unlink", "replace"):
        (secrets / "f").unlink()
    assert 0 == attempt(code, secrets, hideable, write=[hideable])


def test_hidden_below_a_parent(tree, attempt):
    """
    A directory above a denied path cannot be renamed out of the way (EBUSY); one beside it can.
    """
    for name in ("x", "y"):
        (tree / "d" / name / "deep").mkdir(parents=True)
        (tree / "d" / name / "deep" / "secret").write_text("secret")
    rules = {"write": [tree], "deny": [tree / "d/x/deep/secret"]}

    for parent in ("d", "d/x", "d/x/deep"):
        assert errno.EBUSY == attempt(RENAME, tree / parent, **rules)
    assert 0 == attempt(RENAME, tree / "d/y", **rules)


def test_read_only_below_a_parent(tree, attempt):
    """
    Nor can one above a read-only path in a writable tree.
    """
    (tree / "d/x/hooks").mkdir(parents=True)

    for parent in ("d", "d/x", "d/x/hooks"):
        assert errno.EBUSY == attempt(RENAME, tree / parent, write=[tree], read=[tree / "d/x/hooks"])
    assert 0 == attempt(RENAME, tree / "d", write=[tree])


@pytest.mark.parametrize("rules", [*itertools.product(["read", "write", "deny"], repeat=3)], ids="-".join)
@pytest.mark.parametrize("backwards", [False, True], ids=["parents_first", "children_first"])
def test_most_specific_rule(rules, backwards, tree, attempt):
    """
    Of nested rules the innermost decides, in whatever order they are listed.
    """
    places = [tree / "a", tree / "a/b", tree / "a/b/c"]
    places[-1].mkdir(parents=True)
    for place in places:
        (place / "f").touch()
    lists = {"read": [tree], "write": [], "deny": []}
    for rule, place in zip(rules, places, strict=True):
        lists[rule].append(place)
    if backwards:
        lists = {key: value[::-1] for key, value in lists.items()}

    with jail.Sandbox(**lists) as box:
        for number, (rule, place) in enumerate(zip(rules, places, strict=True)):
            # A hidden directory with something shown in it again is an empty one, which can be searched.
            hidden = errno.EACCES if set(rules[number:]) == {"deny"} else errno.ENOENT
            reading, writing = {"read": (0, errno.EROFS), "write": (0, 0), "deny": (hidden, hidden)}[rule]
            assert reading == attempt("open(sys.argv[1])", place / "f", box=box)
            assert writing == attempt("open(sys.argv[1], 'r+')", place / "f", box=box)


SPELLINGS = [
    "{}",
    "{}/",
    "{}//",
    "{}/d/..",
    "{}/.",
    "{}/../tree",
    "tree",
    "./tree",
    "~/tree",
    "link",
    "{}/../link/d/..",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_spelling(spelling, tree, attempt, monkeypatch):
    """
    However a path is spelled it means the same tree, and so it does in a deny.
    """
    monkeypatch.chdir(tree.parent)
    monkeypatch.setenv("HOME", str(tree.parent))
    (tree.parent / "link").symlink_to("tree")
    spelled = spelling.format(tree)

    assert 0 == attempt("open(sys.argv[1])", tree / "f", read=[spelled])
    assert errno.EACCES == attempt("open(sys.argv[1])", tree / "f", read=[tree], deny=[f"{spelled}/f"])
    assert errno.EACCES == attempt("open(sys.argv[1])", tree / "f", read=[tree.parent], deny=[spelled])


@pytest.mark.parametrize("target", ["tree", "{}"], ids=["relative", "absolute"])
def test_link(target, tree, attempt):
    """
    A rule that names a symbolic link shows what it points to, and the link.
    """
    link = tree.parent / "link"
    link.symlink_to(target.format(tree))
    (tree.parent / "other").symlink_to("tree")

    assert 0 == attempt("os.readlink(sys.argv[1]); open(sys.argv[1] + '/f')", link, read=[link])
    assert errno.ENOENT == attempt("os.readlink(sys.argv[1])", tree.parent / "other", read=[link])


NAMES = [
    b"a b", b" ", b"new\nline", b"tab\t", "ünïcødé ☃".encode(), b"\xff\xfe", b"back\\slash", b"\\040", b"-dash",
    b"x" * 255, b"a,b:c=d", b"...", b"{0}",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=ascii)
@pytest.mark.parametrize("kind", ["directory", "file"])
def test_strange_name(name, kind, tree, attempt):
    """
    A name may be any bytes, of a directory as of a single file, shown or hidden.
    """
    path = os.fsdecode(os.path.join(os.fsencode(tree), name))
    if kind == "directory":
        os.mkdir(path)
    else:
        os.mknod(path)
    code = "os.close(os.open(sys.argv[1], os.O_RDONLY)); os.utime(sys.argv[1])"

    assert errno.EROFS == attempt(code, path, read=[path])
    assert 0 == attempt(code, path, write=[path])
    assert errno.EACCES == attempt(code, path, write=[tree], deny=[path])


def test_link_that_appears_later(tree, tmp_path):
    """
    A directory that becomes a link between the policy and the mount is an error, and is not followed.
    """
    box = jail.Sandbox(read=[tree])
    plan = box.plan
    box.close()
    tree.rename(tmp_path / "moved")
    tree.symlink_to("/etc")
    init = jail.spawn.spawn_init(plan.clone_flags, plan.ambient, plan.setup, ())
    try:
        with pytest.raises(jail.SetupError) as caught:
            init.await_ready()
    finally:
        init.close()

    assert (errno.ELOOP, str(tree)) == (caught.value.errno, caught.value.path)
