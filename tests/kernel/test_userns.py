"""
Who a program is. user_namespaces(7)
"""

import errno
import os

import pytest

import jail

pytestmark = pytest.mark.needs("userns")

WHO = """
import grp, json, os, pwd
account = pwd.getpwuid(os.getuid())
print(json.dumps([[*os.getresuid()], [*os.getresgid()], os.getgroups(), account.pw_dir == os.environ["HOME"],
                  account.pw_name == os.environ["USER"], grp.getgrgid(os.getgid()).gr_gid]))
"""


@pytest.mark.parametrize(
    ("rules", "uid", "gid"),
    [
        pytest.param({}, os.getuid() or 1000, os.getgid() or 1000, id="default"),
        pytest.param({"uid": 0, "gid": 0}, 0, 0, id="root"),
        pytest.param({"uid": 4711, "gid": 4712}, 4711, 4712, id="other"),
        pytest.param({"uid": 65534, "gid": 65534}, 65534, 65534, id="nobody"),
        pytest.param({"uid": 4711}, 4711, os.getgid() or 1000, id="only_uid"),
        pytest.param({"uid": 4294967294, "gid": 4294967294}, 4294967294, 4294967294, id="largest"),
    ],
)
def test_ids(rules, uid, gid, inside):
    """
    The ids are the policy's, or the caller's own, or 1000 where he is root; passwd(5) and group(5) agree.
    """
    uids, gids, groups, home, user, group = inside(WHO, **rules)

    assert ([uid] * 3, [gid] * 3) == (uids, gids)
    assert set() == set(groups) - {gid, 65534}  # groups that are not mapped are seen as the overflow gid
    assert (True, True, gid) == (home, user, group)


def test_files_belong_to_the_caller(tree, attempt):
    """
    What a program writes outside belongs to the caller, whatever it is called inside.
    """
    assert 0 == attempt(
        "open(sys.argv[1] + '/new', 'w'); assert os.stat(sys.argv[1]).st_uid == 4711",
        tree,
        write=[tree],
        uid=4711,
    )
    assert (os.getuid(), os.getgid()) == ((tree / "new").stat().st_uid, (tree / "new").stat().st_gid)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param("os.setuid(os.getuid())", 0, id="allow_setuid_to_itself"),  # the control
        pytest.param("os.setuid(os.getuid() + 1)", errno.EINVAL, id="deny_setuid"),
        pytest.param("os.setgid(os.getgid() + 1)", errno.EINVAL, id="deny_setgid"),
        pytest.param("os.setgroups([os.getgid()])", errno.EPERM, id="deny_setgroups"),
        pytest.param("os.chown(sys.argv[1], os.getuid(), os.getgid())", 0, id="allow_chown_to_itself"),
        pytest.param("os.chown(sys.argv[1], os.getuid() + 1, -1)", errno.EINVAL, id="deny_chown"),
        pytest.param("call('unshare', 0x10000000)", errno.EPERM, id="deny_unshare_user"),
        pytest.param("call('unshare', 0x00020000)", errno.EPERM, id="deny_unshare_mount"),
        pytest.param(
            "call('setns', os.open('/proc/self/ns/user', os.O_RDONLY), 0)",
            errno.EPERM,
            id="deny_setns",
            marks=pytest.mark.needs("proc"),
        ),
    ],
)
def test_change(code, expected, tree, attempt):
    """
    There is nobody else to become, nor another namespace to enter.
    """
    assert expected == attempt(code, tree / "f", write=[tree])


@pytest.mark.parametrize("uid", [-1, 4294967295, 1 << 32, "0", 1.0, True])
def test_refuse(uid):
    """
    What is no uid is a PolicyError; -1 is nobody's (credentials(7)).
    """
    with pytest.raises(jail.PolicyError) as caught:
        jail.run(["true"], uid=uid)

    assert "uid" == caught.value.key


@pytest.mark.skipif("os.geteuid()", reason="another user's file asks for root")
def test_files_of_others(tree, attempt):
    """
    Where the caller is root, a file of another user's is nobody's: its mode decides as for any stranger.
    """
    os.chmod(tree / "f", 0o600)
    assert 0 == attempt("open(sys.argv[1])", tree / "f", read=[tree])
    os.chown(tree / "f", 4711, 4711)
    assert errno.EACCES == attempt("open(sys.argv[1])", tree / "f", read=[tree])
