"""
Package managers in a sandbox with a network allowlist: apt-get, npm, and pip with an index here and with the real one.
"""

import base64
import hashlib
import io
import ipaddress
import json
import os
import socket
import subprocess
import tarfile
import urllib.parse
import zipfile

import pytest

import jail
from kernel.servers import Greeter, files_of, refused, sandbox, serving

pytestmark = pytest.mark.needs("userns", "netns")

PYTHON = jail.probe().bin_directory + "/python3"
PIP = [
    PYTHON,
    "-I",
    "-m",
    "pip",
    "--isolated",
    "--no-cache-dir",
    "--disable-pip-version-check",
    "--retries=0",
]

CONTROL = """Package: greeting
Version: 1.2
Architecture: all
Maintainer: nobody <nobody@ok.test>
Description: says hello
"""


@pytest.mark.program("apt-get", "dpkg-deb")
def test_apt(tmp_path):
    """
    `apt-get update` and `download`, of a small repository.
    """
    (tmp_path / "tree/DEBIAN").mkdir(parents=True)
    (tmp_path / "tree/DEBIAN/control").write_text(CONTROL)
    command = ["dpkg-deb", "--root-owner-group", "--build", "tree", "greeting.deb"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    package = (tmp_path / "greeting.deb").read_bytes()
    digest = hashlib.sha256(package).hexdigest()
    index = f"{CONTROL}Filename: ./greeting.deb\nSize: {len(package)}\nSHA256: {digest}\n"
    (tmp_path / "Packages").write_text(index)

    with serving(files_of(tmp_path)) as port, sandbox(port) as box:

        def update(name):
            source = f"deb [trusted=yes] http://{name}:{port}/ ./"
            return box.run(["sh", "-c", APT, "sh", source, "update", "--error-on=any"])

        allowed = update("ok.test")
        fetched = box.run(
            ["sh", "-c", APT, "sh", f"deb [trusted=yes] http://ok.test:{port}/ ./", "download", "greeting"]
        )
        there = box.run("cat /tmp/apt/greeting_1.2_all.deb", shell=True)
        denied = update("other.test")

    assert (0, set()) == (allowed.exit_code, refused(allowed)), allowed.stderr
    assert (0, package) == (fetched.exit_code, there.stdout), fetched.stderr
    # apt asks for SRV records first (RFC 2782)
    assert (100, {"other.test", "_http._tcp.other.test"}) == (denied.exit_code, refused(denied))
    assert b"Could not resolve 'other.test'" in denied.stdout + denied.stderr


# Told a source and what to do. It has directories of its own, and is no root that could become _apt.
APT = """
mkdir -p /tmp/apt/lists/partial /tmp/apt/cache/archives/partial && cd /tmp/apt && echo "$1" > sources.list && shift
exec apt-get -q -o Dir::State::Lists=/tmp/apt/lists -o Dir::Cache=/tmp/apt/cache -o Dir::Etc::Parts=/none \
    -o Dir::Etc::SourceList=/tmp/apt/sources.list -o Dir::Etc::SourceParts=/none -o APT::Sandbox::User= \
    -o Acquire::Retries=0 -o Acquire::Languages=none "$@"
"""


def make_wheel(directory):
    """
    A package with one module, as PEP 427 has it.
    """
    directory.mkdir(parents=True)
    files = {
        "greeting.py": b"print('hello')\n",
        "greeting-1.2.dist-info/METADATA": b"Metadata-Version: 2.1\nName: greeting\nVersion: 1.2\n",
        "greeting-1.2.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},sha256={digest(data)},{len(data)}\n" for name, data in files.items())
    files["greeting-1.2.dist-info/RECORD"] = record.encode()
    with zipfile.ZipFile(directory / "greeting-1.2-py3-none-any.whl", "w") as wheel:
        for name, data in files.items():
            wheel.writestr(name, data)


def digest(data):
    """
    As a wheel's RECORD has it.
    """
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def test_pip(tmp_path):
    """
    `pip install` from an index on this host: a directory whose listings are pages of PEP 503.
    """
    make_wheel(tmp_path / "greeting")
    with serving(files_of(tmp_path)) as port, sandbox(port) as box:

        def install(name):
            words = [
                "install",
                "--target=/tmp/site",
                f"--trusted-host={name}",
                f"--index-url=http://{name}:{port}/",
            ]
            return box.run([*PIP, *words, "greeting"])

        denied = install("other.test")
        allowed = install("ok.test")
        hello = box.run([PYTHON, "/tmp/site/greeting.py"])

    assert (1, {"other.test"}) == (denied.exit_code, refused(denied))
    assert b"No matching distribution found for greeting" in denied.stderr
    assert (0, set()) == (allowed.exit_code, refused(allowed)), allowed.stderr
    assert b"hello\n" == hello.stdout, hello.stderr


MANIFEST = {"name": "greeting", "version": "1.2.0", "bin": "greeting.js"}


class Registry(Greeter):
    """
    Of npm: one package, of which it tells where its file is by the name that it was asked by.
    """

    def body(self):
        """
        Its document, or its file.
        """
        file = make_tarball()
        place = f"http://{self.headers['Host']}/greeting/-/greeting-1.2.0.tgz"
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(file).digest()).decode()
        version = {**MANIFEST, "dist": {"tarball": place, "integrity": integrity}}
        document = {"name": "greeting", "dist-tags": {"latest": "1.2.0"}, "versions": {"1.2.0": version}}
        return file if self.path.endswith(".tgz") else json.dumps(document).encode()


def make_tarball():
    """
    A package of npm's.
    """
    files = {
        "package/package.json": json.dumps(MANIFEST).encode(),
        "package/greeting.js": b"#!/usr/bin/env node\nconsole.log('hello')\n",
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.program("npm")
@pytest.mark.slow
def test_npm(tmp_path):
    """
    `npm install`, and a run of what it has installed.
    """
    with serving(Registry) as port, sandbox(port, workspace=str(tmp_path), workspace_access="write") as box:

        def install(name):
            words = (
                "--no-audit --no-fund --no-update-notifier --fetch-retries=0 --prefix=. --registry".split()
            )
            return box.run(["npm", "install", "greeting", *words, f"http://{name}:{port}/"])

        denied = install("other.test")
        allowed = install("ok.test")
        hello = box.run(["node_modules/.bin/greeting"])

    assert (True, {"other.test"}) == (denied.exit_code != 0, refused(denied))
    assert b"ENOTFOUND" in denied.stderr
    assert (0, set()) == (allowed.exit_code, refused(allowed)), allowed.stderr
    assert b"hello\n" == hello.stdout, hello.stderr


def configured_index():
    """
    The URL of the index that pip uses on this machine: PyPI's, where it is configured to no other.
    """
    asked = subprocess.run(
        [PYTHON, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True
    )
    url = os.environ.get("PIP_INDEX_URL") or asked.stdout.strip() or "https://pypi.org/simple"
    if not url.startswith("http"):
        pytest.skip(f"pip is configured to {url}, which takes no network")
    return url


def inner(name, port):
    """
    Rules for the addresses that a name has in a private network: a mirror's, which no name allows by itself.
    """
    found = {address[0] for *_, address in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)}
    return [
        f"{text}:{port}" for text in found if ":" not in text and not ipaddress.ip_address(text).is_global
    ]


def test_pip_with_the_configured_index(tmp_path):
    """
    `pip install` from the real index, for which nothing but its name and that of PyPI's files is allowed.
    """
    url = configured_index()
    index = urllib.parse.urlsplit(url)
    port = index.port or (80 if index.scheme == "http" else 443)
    get = [*PIP, "install", "--no-deps", "--target=/tmp/got", "idna", f"--trusted-host={index.hostname}"]
    outside = [word.replace("/tmp/got", str(tmp_path)) for word in get]
    if subprocess.run([*outside, f"--index-url={url}"], capture_output=True).returncode:
        pytest.skip(f"pip reaches no {url} from here, outside of a sandbox either")
    rules = [f"{name}:{port}" for name in (index.hostname, "files.pythonhosted.org")]
    with jail.Sandbox(network=[*rules, *inner(index.hostname, port)], timeout=120) as box:
        denied = box.run([*get, "--index-url=https://other.test/simple"])
        allowed = box.run([*get, f"--index-url={url}"])
        there = box.run([PYTHON, "-c", "import idna; print(idna.__file__)"], env={"PYTHONPATH": "/tmp/got"})

    assert (1, {"other.test"}) == (denied.exit_code, refused(denied))
    assert (0, set()) == (allowed.exit_code, refused(allowed)), allowed.stderr
    assert b"/tmp/got/idna/__init__.py\n" == there.stdout
