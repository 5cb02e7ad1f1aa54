"""
What is said to the proxy of a sandbox, in tests of it: requests, who says them inside, and a sandbox to say them in.
"""

import re
import sys

import jail

PYTHON = (sys.executable, "-I", "-S", "-c")

# Prints what became of each command in one sandbox.
RUN = """
import dataclasses, json, jail, os, sys
fields, *commands = map(json.loads, sys.argv[1:])
with jail.Sandbox(resolver=lambda _: ["127.0.0.1"], timeout=60, **fields) as box:
    seen = [box.run(cmd) for cmd in commands]
print(json.dumps([{"code": r.exit_code, "out": r.stdout.text, "err": r.stderr.text,
                   "denials": [str(dataclasses.replace(d, comm=None, pid=None)) for d in r.denials],
                   "bytes": r.usage.network_bytes} for r in seen]))
"""
# Says to the proxy of the environment what it is given, a piece each time that something has come, and prints the rest.
TALK = """
import os, socket, sys
host, port = os.environ["http_proxy"].removeprefix("http://").split(":")
s = socket.create_connection((host, int(port)), 30)
first, *others = map(bytes.fromhex, sys.argv[1:])
s.sendall(first)
got = b""
for piece in others:
    got += s.recv(65536)
    s.sendall(piece)
try:
    while data := s.recv(65536):
        got += data
except ConnectionResetError:
    got += b"(reset)"
print(got.decode("latin-1"))
"""


def talk(*pieces):
    """
    The command that says this to the proxy.
    """
    return [*PYTHON, TALK, *(piece.encode("latin-1").hex() for piece in pieces)]


def connect(target):
    """
    A CONNECT.
    """
    return f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"


def get(url, *fields, host="x"):
    """
    A GET.
    """
    return f"GET {url} HTTP/1.1\r\nHost: {host}\r\n" + "".join(f"{field}\r\n" for field in fields) + "\r\n"


def status(text):
    """
    That of an answer.
    """
    found = re.match(r"HTTP/1\.[01] ([0-9]{3})", text)
    return found and int(found[1])


def sandbox(port, **fields):
    """
    One that may reach ok.test by its proxy.
    """
    fields = {"resolver": lambda _: ["127.0.0.1"], "timeout": 60, "proxy_variables": True, **fields}
    rules = [f"ok.test:{port}", f"127.0.0.1:{port}", *fields.pop("more", ())]
    return jail.Sandbox(network=rules, **fields)
