"""
HTTPS by programs with TLS stacks of their own, to a server that an authority of the test's vouches for.

TLS passes untouched: each program trusts that authority alone, so what it accepts is the server's own certificate.
"""

import subprocess

import pytest

import jail
from kernel.servers import Greeter, files_of, make_authority, refused, sandbox, serving

pytestmark = [pytest.mark.needs("userns", "netns"), pytest.mark.program("openssl")]

PYTHON = jail.probe().bin_directory + "/python3"

# Each is given the URL and the authority's file.
REQUESTS = """
import requests, sys
print(requests.get(sys.argv[1], verify=sys.argv[2], timeout=20).text)
"""
HTTPX = """
import httpx, ssl, sys
print(httpx.get(sys.argv[1], verify=ssl.create_default_context(cafile=sys.argv[2]), timeout=20).text)
"""
AIOHTTP = """
import aiohttp, asyncio, ssl, sys
async def main():
    context = ssl.create_default_context(cafile=sys.argv[2])
    async with aiohttp.ClientSession() as session, session.get(sys.argv[1], ssl=context) as response:
        print(await response.text())
asyncio.run(main())
"""
URLLIB = """
import ssl, sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], context=ssl.create_default_context(cafile=sys.argv[2])).read().decode())
"""
FETCH = "fetch(process.argv[1]).then(r => r.text()).then(console.log)"

PROGRAMS = ("curl", "node", "wget")
UNKNOWN = b"Name or service not known"  # gai_strerror(3) of EAI_NONAME

# The command for a URL with an authority's file; the exit code and the words when there is no such name.
CLIENTS = {
    "curl": (
        lambda url, ca: ["curl", "-sS", "--max-time", "20", "--cacert", ca, url],
        6,  # CURLE_COULDNT_RESOLVE_HOST
        b"Could not resolve host: other.test",
    ),
    "wget": (
        lambda url, ca: ["wget", "-nv", "-O-", "-T", "20", f"--ca-certificate={ca}", url],
        4,  # "Network failure"
        b"unable to resolve host address",
    ),
    "node": (
        lambda url, ca: ["env", f"NODE_EXTRA_CA_CERTS={ca}", "node", "-e", FETCH, url],
        1,
        b"ENOTFOUND",
    ),
    "urllib": (lambda *words: [PYTHON, "-I", "-c", URLLIB, *words], 1, UNKNOWN),
    "requests": (lambda *words: [PYTHON, "-I", "-c", REQUESTS, *words], 1, UNKNOWN),
    "httpx": (lambda *words: [PYTHON, "-I", "-c", HTTPX, *words], 1, UNKNOWN),
    "aiohttp": (lambda *words: [PYTHON, "-I", "-c", AIOHTTP, *words], 1, UNKNOWN),
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """
    The authority's file, and what a server of its needs.
    """
    place = tmp_path_factory.mktemp("tls")
    place.chmod(0o755)
    return place / "ca.pem", make_authority(place)


@pytest.fixture
def tls(authority):
    """
    The port of an HTTPS server.
    """
    with serving(Greeter, authority[1]) as port:
        yield port


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        pytest.param(*row, id=name, marks=[pytest.mark.program(name)] if name in PROGRAMS else [])
        for name, row in CLIENTS.items()
    ],
)
def test_https(command, code, words, authority, tls):
    """
    A client is content with the certificate of the name that is allowed, and of another hears that there is none.
    """
    ca = str(authority[0])
    with sandbox(tls, read=[ca]) as box:
        allowed = box.run(command(f"https://ok.test:{tls}/", ca))
        denied = box.run(command(f"https://other.test:{tls}/", ca))

    assert (0, b"hello", set()) == (allowed.exit_code, allowed.stdout.strip(), refused(allowed)), (
        allowed.stderr
    )
    assert (code, b"", {"other.test"}) == (denied.exit_code, denied.stdout, refused(denied)), denied.stderr
    assert words in denied.stderr


@pytest.mark.program("git")
def test_git(authority, tmp_path):
    """
    `git clone` over HTTPS.
    """
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
    for command in ("init -q one", "-C one commit -q --allow-empty -m first", "clone -q --bare one one.git",
                    "-C one.git update-server-info"):  # fmt: skip
        subprocess.run([*git, *command.split()], check=True, capture_output=True)
    clone = ["git", "-c", f"http.sslCAInfo={authority[0]}", "clone", "-q"]

    with serving(files_of(tmp_path), authority[1]) as port, sandbox(port, read=[str(authority[0])]) as box:
        allowed = box.run([*clone, f"https://ok.test:{port}/one.git", "/tmp/one"])
        log = box.run("git -C /tmp/one log --format=%s", shell=True)
        denied = box.run([*clone, f"https://other.test:{port}/one.git", "/tmp/two"])

    assert (0, b"first\n") == (allowed.exit_code, log.stdout), allowed.stderr
    assert (128, {"other.test"}) == (denied.exit_code, refused(denied))
    assert b"Could not resolve host: other.test" in denied.stderr


JAVA = """
import java.net.URI;
import java.net.http.*;
class Get {
    public static void main(String[] args) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(args[0])).build();
        System.out.print(HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body());
    }
}
"""


@pytest.mark.program("java", "javac", "keytool")
@pytest.mark.slow
def test_java(authority, tls, tmp_path):
    """
    Java's HttpClient, which offers HTTP/2 in TLS.
    """
    (tmp_path / "Get.java").write_text(JAVA)
    trust = ["-noprompt", "-storepass", "secret", "-keystore", "trust", "-file", str(authority[0])]
    for command in (["javac", "Get.java"], ["keytool", "-importcert", *trust]):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    store = [f"-Djavax.net.ssl.trustStore{word}" for word in ("=trust", "Password=secret")]
    java = ["java", "-XX:TieredStopAtLevel=1", *store, "Get"]
    with sandbox(tls, workspace=str(tmp_path)) as box:
        allowed = box.run([*java, f"https://ok.test:{tls}/"])
        denied = box.run([*java, f"https://other.test:{tls}/"])

    assert (0, b"hello") == (allowed.exit_code, allowed.stdout), allowed.stderr
    assert (1, b"", {"other.test"}) == (denied.exit_code, denied.stdout, refused(denied))
    assert b"UnresolvedAddressException" in denied.stderr
