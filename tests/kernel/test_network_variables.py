"""
Proxy variables, and the proxy that they name: with a network namespace, and without one. RFC 9110, RFC 9112

Servers are on the host's loopback, and every name is this host.
"""

import errno
import json
import os
import re
import socket
import threading

import pytest

import jail
from kernel.conftest import CONTAINER
from kernel.proxied import PYTHON, RUN, connect, get, status, talk
from kernel.servers import Greeter, files_of, make_authority, serving

pytestmark = pytest.mark.needs("userns", "netns")


@pytest.fixture(
    params=[
        "namespaces",
        pytest.param("landlock", marks=pytest.mark.needs("landlock_abi_6", "libseccomp", "seccomp_notify")),
    ]
)
def asked(request, ask_harness, tmp_path):
    """
    Runs commands in a sandbox of either kind, and gives what became of each.
    """
    source = (CONTAINER if request.param == "landlock" else "") + RUN
    options = {"env": {**os.environ, "TMPDIR": str(tmp_path)}}

    def asked(*commands, **fields):
        fields = {"proxy_variables": True, **fields}
        return ask_harness(source, json.dumps(fields), *map(json.dumps, commands), **options)

    return asked


def closed_port():
    """
    A port that nobody has now.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def is_whole(data):
    """
    Whether a request with its body has come, where that has the end that it has in these tests.
    """
    head, end, body = data.partition(b"\r\n\r\n")
    if b"Content-Length" in head:
        return body.endswith(b"(end)")
    return body.endswith(b"0\r\n\r\n") if b"chunked" in head else bool(end)


@pytest.fixture
def recorder():
    """
    A server that answers whole requests; its port, and what it has heard.
    """
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            while True:
                with listener.accept()[0] as conn:
                    data = b""
                    while not is_whole(data):
                        if not (piece := conn.recv(65536)):
                            return
                        data += piece
                    heard.append(data.decode("latin-1"))
                    conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], heard
        socket.create_connection(listener.getsockname()).close()
        thread.join()


def test_variables(asked):
    """
    Both cases of each are set; what the caller sets in one case is set in no other; without the key none is.
    """
    command = ["sh", "-c", "env | grep -i _proxy= | sort"]
    every = asked(command, network=[])[0]["out"].split()
    fewer = asked(command, network=[], env={"HTTPS_PROXY": "http://mine:1", "no_proxy": "x"})[0][
        "out"
    ].split()
    none = asked(command, network=[], proxy_variables=False)[0]["out"].split()

    urls = {line.partition("=")[2] for line in every if "no_proxy" not in line.lower()}
    names = [
        "ALL_PROXY",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "NO_PROXY",
        "all_proxy",
        "http_proxy",
        "https_proxy",
        "no_proxy",
    ]
    assert names == sorted(line.partition("=")[0] for line in every)
    assert re.fullmatch(r"http://127\.0\.0\.1:[0-9]+", *urls)
    assert {"no_proxy=localhost,127.0.0.1,::1", "NO_PROXY=localhost,127.0.0.1,::1"} < {*every}
    assert ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "all_proxy", "http_proxy", "no_proxy"] == sorted(
        line.partition("=")[0] for line in fewer
    )
    assert {"HTTPS_PROXY=http://mine:1", "no_proxy=x"} < {*fewer}
    assert [] == none


@pytest.mark.parametrize(
    ("host", "port", "expected"),
    [
        pytest.param("ok.test", 0, 200, id="allow_name"),
        pytest.param("OK.Test.", 0, 200, id="allow_another_spelling"),
        pytest.param("a.b.wild.test", 0, 200, id="allow_wildcard"),
        pytest.param("127.0.0.1", 0, 200, id="allow_address"),
        pytest.param("[::ffff:127.0.0.1]", 0, 200, id="allow_mapped"),
        pytest.param("localhost", 0, 200, id="allow_loopback_by_name"),
        pytest.param("no.test", 0, 403, id="deny_name"),
        pytest.param("wild.test", 0, 403, id="deny_bare_name"),
        pytest.param("denied.wild.test", 0, 403, id="deny_denied"),
        pytest.param("ok.test", 1, 403, id="deny_port"),
        pytest.param("127.0.0.2", 0, 403, id="deny_address"),
        pytest.param("[::ffff:127.0.0.2]", 0, 403, id="deny_mapped"),
        pytest.param("[64:ff9b::7f00:2]", 0, 403, id="deny_translated"),
        pytest.param("169.254.169.254", 0, 403, id="deny_metadata"),
        pytest.param("[fd00:ec2::254]", 0, 403, id="deny_metadata_of_ipv6"),
        pytest.param("0x7f000001", 0, 400, id="refuse_hexadecimal"),
        pytest.param("127.1", 0, 400, id="refuse_short"),
        pytest.param("2130706433", 0, 400, id="refuse_decimal"),
    ],
)
def test_targets(host, port, expected, web, asked):
    """
    By either form the same is reached, and the same refused, with words: what the rules are about.
    """
    fields = {
        "network": [f"ok.test:{web}", f"*.wild.test:{web}", f"127.0.0.1:{web}"],
        "deny_network": ["denied.wild.test"],
    }
    target = f"{host}:{web + port}"
    origin_form = get("/", "Connection: close", host=target)
    tunnel, plain = asked(talk(connect(target), origin_form), talk(get(f"http://{target}/")), **fields)

    assert (expected, expected) == (status(tunnel["out"]), status(plain["out"]))
    if expected == 200:
        assert plain["out"].endswith("\r\n\r\nhello\n")
        assert "HTTP/1.1 200 Connection established\r\n\r\nHTTP/1.1 200 OK" in tunnel["out"]
        assert [] == tunnel["denials"] == plain["denials"]
    elif expected == 403:
        assert 1 == len(plain["denials"])
        assert f"jail: {plain['denials'][0]}\n" in plain["out"]
        assert tunnel["denials"] == plain["denials"]


def test_everybody(web, asked):
    """
    "*" is every name, and no address that is not public; those have to be named.
    """
    command = talk(get(f"http://any.test:{web}/"))
    denied = asked(command, network=[f"*:{web}"])[0]
    allowed = asked(command, network=[f"*:{web}", f"127.0.0.1:{web}"])[0]

    assert "403 Forbidden (jail: 127.0.0.1 is loopback, and no rule names it)" in denied["out"]
    assert 200 == status(allowed["out"])


def test_nobody_answers(asked):
    """
    Where nobody listens it is 502, and no denial.
    """
    port = closed_port()
    seen = asked(
        talk(connect(f"ok.test:{port}")),
        talk(get(f"http://127.0.0.1:{port}/")),
        network=[f"ok.test:{port}", f"127.0.0.1:{port}"],
    )

    assert [(502, []), (502, [])] == [(status(one["out"]), one["denials"]) for one in seen]
    assert "jail: nobody answers at ok.test" in seen[0]["out"]


@pytest.mark.parametrize(
    ("request_", "heard"),
    [
        pytest.param(
            get("http://ok.test:PORT/a?b", "Proxy-Connection: keep-alive", "A: b", "Connection: c", "C: d"),
            "GET /a?b HTTP/1.1\r\nHost: ok.test:PORT\r\nA: b\r\nConnection: close\r\n\r\n",
            id="head",
        ),
        pytest.param(
            get("http://ok.test:PORT/", host="evil.test"),
            "GET / HTTP/1.1\r\nHost: ok.test:PORT\r\nConnection: close\r\n\r\n",
            id="another_host",
        ),
        pytest.param(
            get("http://ok.test:PORT/", "Content-Length: 9").replace("GET", "POST") + "\0\xff\r\n(end)",
            "POST / HTTP/1.1\r\nHost: ok.test:PORT\r\nContent-Length: 9\r\nConnection: close\r\n\r\n\0\xff\r\n(end)",
            id="length",
        ),
        pytest.param(
            get("http://ok.test:PORT/", "Transfer-Encoding: chunked").replace("GET", "PUT")
            + "1\r\na\r\n0\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: ok.test:PORT\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            "1\r\na\r\n0\r\n\r\n",
            id="chunked",
        ),
    ],
)
def test_what_the_server_hears(request_, heard, recorder, asked):
    """
    The origin form, the Host that was judged, nothing of the hop, and the body as it came.
    """
    port, seen = recorder
    answer = asked(
        talk(request_.replace("PORT", str(port))), network=[f"ok.test:{port}", f"127.0.0.1:{port}"]
    )[0]

    assert "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello\n" == answer["out"]
    assert [heard.replace("PORT", str(port))] == seen


@pytest.mark.parametrize(("name", "expected"), [("ok.test", "hello"), ("other.test", "(reset)")])
@pytest.mark.parametrize("word", ["", " any-name"])
def test_saying_another_name(name, expected, word, web, asked):
    """
    What goes through a tunnel says whom it is for, or is reset; with any-name it may say anybody.
    """
    rules = [f"ok.test:{web}{word}", f"127.0.0.1:{web}"]
    request = get("/", "Connection: close", host=name)
    seen = asked(talk(connect(f"ok.test:{web}"), request), network=rules)[0]
    expected = "hello" if word else expected
    denied = [f"HTTP says {name} on a connection to ok.test" in text for text in seen["denials"]]

    assert seen["out"].endswith(f"{expected}\n")
    assert [True] * (expected == "(reset)") == denied


URLLIB = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode())"
REQUESTS = """
import requests, sys
response = requests.get(sys.argv[1], timeout=20)
response.raise_for_status()
print(response.text)
"""
HTTPX = "import httpx, sys; print(httpx.get(sys.argv[1], timeout=20).raise_for_status().text)"
WITH_PACKAGES = (jail.probe().bin_directory + "/python3", "-I", "-c")
# What a refusal looks like.
CLIENTS = {
    "curl": (["curl", "-sS", "--fail", "--max-time", "20"], "403"),
    "wget": (["wget", "-nv", "-O-", "-T", "20"], "403: Forbidden (jail: no rule allows this name and port)"),
    "urllib": ([*WITH_PACKAGES, URLLIB], "HTTP Error 403"),
    "requests": ([*WITH_PACKAGES, REQUESTS], "403 Client Error: Forbidden (jail: no rule"),
    "httpx": ([*WITH_PACKAGES, HTTPX], "403 Forbidden"),
}


@pytest.mark.parametrize(
    "client",
    [
        pytest.param(name, marks=pytest.mark.program(name) if name in ("curl", "wget") else ())
        for name in CLIENTS
    ],
)
def test_clients(client, web, asked):
    """
    Each fetches by an allowed name and by an allowed address, and is refused any other name by a status.
    """
    command, refusal = CLIENTS[client]
    rules = [f"ok.test:{web}", f"127.0.0.1:{web}"]
    allowed, denied = asked(
        *([*command, f"http://{host}:{web}/"] for host in ("ok.test", "no.test")), network=rules
    )

    assert (0, "hello", []) == (allowed["code"], allowed["out"].strip(), allowed["denials"]), allowed["err"]
    assert 0 != denied["code"]
    assert refusal in denied["err"]
    assert 1 == len(denied["denials"])


@pytest.mark.program("git")
def test_git(asked, tmp_path):
    """
    `git` asks a server what it has.
    """
    (tmp_path / "info").mkdir()
    (tmp_path / "info/refs").write_text(f"{'a' * 40}\trefs/heads/main\n")
    (tmp_path / "HEAD").write_text("ref: refs/heads/main\n")
    with serving(files_of(tmp_path), joins=True) as port:
        urls = [f"http://{host}:{port}/" for host in ("ok.test", "no.test")]
        allowed, denied = asked(
            *(["git", "ls-remote", url] for url in urls), network=[f"ok.test:{port}", f"127.0.0.1:{port}"]
        )

    assert "refs/heads/main" in allowed["out"], allowed["err"]
    assert "error: 403" in denied["err"]


# Wraps TLS, for one name, around a tunnel to ok.test; prints the first of what the server says, or the errno.
TLS = """
import os, socket, ssl, sys
port, name, authority = sys.argv[1:]
host, proxy_port = os.environ["https_proxy"].removeprefix("http://").split(":")
with socket.create_connection((host, int(proxy_port)), 30) as s:
    s.sendall(f"CONNECT ok.test:{port} HTTP/1.1\\r\\nHost: ok.test:{port}\\r\\n\\r\\n".encode())
    assert s.recv(4096).startswith(b"HTTP/1.1 200 ")
    try:
        with ssl.create_default_context(cafile=authority).wrap_socket(s, server_hostname=name) as tls:
            tls.sendall(b"GET / HTTP/1.1\\r\\nHost: whoever\\r\\nConnection: close\\r\\n\\r\\n")
            print(tls.recv(4096)[:15])
    except OSError as exc:
        sys.exit(exc.errno)
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """
    The authority's file, and what a server of its needs.
    """
    place = tmp_path_factory.mktemp("tls")
    place.chmod(0o755)
    return str(place / "ca.pem"), make_authority(place)


@pytest.mark.program("curl", "openssl")
def test_tls(authority, web, asked):
    """
    TLS passes through a tunnel as it is, to the name that was asked for; in there it may name no other.
    """
    ca, context = authority
    with serving(Greeter, context, joins=True) as port:
        curl = ["curl", "-sS", "--max-time", "20", "--cacert", ca]
        fetched, refused, same, other = asked(
            [*curl, f"https://ok.test:{port}/"],
            [*curl, f"https://other.test:{port}/"],
            [*PYTHON, TLS, str(port), "ok.test", ca],
            [*PYTHON, TLS, str(web), "other.test", ca],
            network=[f"ok.test:{port},{web}", f"127.0.0.1:{port},{web}"],
            read=[ca],
        )

    assert (0, "hello") == (fetched["code"], fetched["out"]), fetched["err"]
    assert (56, True) == (refused["code"], "CONNECT tunnel failed, response 403" in refused["err"])
    assert (0, "b'HTTP/1.1 200 OK'\n") == (same["code"], same["out"]), same["err"]
    assert (errno.ECONNRESET, "") == (other["code"], other["out"])
    assert ["TLS says other.test on a connection to ok.test" in text for text in other["denials"]] == [True]


def test_heads_that_are_none(web, asked):
    """
    What is too long is 431, what is no request 400, and the server hears neither; the control is in `test_targets`.
    """
    url = f"http://ok.test:{web}/"
    cases = [
        get(url, "A: " + "b" * 20000),
        get(url, "A: " + "b" * 20000).rstrip(),
        get(url, "Host: y"),
        get("/"),
        "\x16\x03\x01",
        "\x05\x01\x00",
    ]
    seen = asked(*map(talk, cases), network=[f"ok.test:{web}", f"127.0.0.1:{web}"])

    assert [431, 431, 400, 400, 400, 400] == [status(one["out"]) for one in seen]
    assert [[]] * 6 == [one["denials"] for one in seen]


def test_bodies_that_are_refused(asked):
    """
    Who is refused while it sends a body hears so: the answer is not overtaken by a reset.
    """
    body = "x" * 60000
    seen = asked(talk(get("http://no.test/", f"Content-Length: {len(body)}") + body), network=[])[0]

    assert 403 == status(seen["out"])


def test_families(web, asked):
    """
    A client that has a socket of IPv6 for IPv4, as Java's, finds the proxy, too.
    """
    code = """
import os, socket, sys
host, port = os.environ["http_proxy"].removeprefix("http://").split(":")
with socket.socket(socket.AF_INET6) as s:
    s.connect(("::ffff:" + host, int(port)))
    s.sendall(sys.argv[1].encode())
    print(s.recv(4096)[:12])
"""
    rules = [f"ok.test:{web}", f"127.0.0.1:{web}"]
    seen = asked([*PYTHON, code, get(f"http://ok.test:{web}/")], network=rules)[0]

    assert ("", "b'HTTP/1.1 200'\n") == (seen["err"], seen["out"])
