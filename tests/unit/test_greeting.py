"""
Whom the first bytes of a connection name. Each case is bytes.
"""

import ssl

import pytest

from jail.greeting import GREETING_BYTES_MAX, read_greeting


def client_hello(name):
    """
    What OpenSSL sends first to a server of this name; without a name where that is None.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def record(data, kind=22):
    return bytes([kind, 3, 1]) + len(data).to_bytes(2, "big") + data


def said(data):
    greeting = read_greeting(data)
    return greeting.kind, *greeting.names


HELLO = client_hello("Ok.Test")
MESSAGE = HELLO[5:]


def hello_with(*names, kind=0):
    """
    A ClientHello with these server names and nothing else.
    """
    entries = b"".join(bytes([kind]) + len(n).to_bytes(2, "big") + n for n in names)
    extension = len(entries).to_bytes(2, "big") + entries
    extensions = b"\0\0" + len(extension).to_bytes(2, "big") + extension
    body = (
        b"\3\3"
        + bytes(32)
        + b"\0"
        + b"\0\2\x13\1"
        + b"\1\0"
        + len(extensions).to_bytes(2, "big")
        + extensions
    )
    return record(b"\1" + len(body).to_bytes(3, "big") + body)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(HELLO, ("tls", "ok.test"), id="name"),
        pytest.param(HELLO + b"more", ("tls", "ok.test"), id="early_data"),
        pytest.param(record(MESSAGE[:9]) + record(MESSAGE[9:]), ("tls", "ok.test"), id="two_records"),
        pytest.param(
            b"".join(record(MESSAGE[i : i + 1]) for i in range(len(MESSAGE))), ("tls", "ok.test"), id="tiny"
        ),
        pytest.param(client_hello(None), ("tls",), id="no_name"),
        pytest.param(hello_with(b"a.org"), ("tls", "a.org"), id="made"),
        pytest.param(hello_with(b"a.org", b"b.org"), ("tls", "a.org", "b.org"), id="two_names"),
        pytest.param(hello_with(b"a.org."), ("tls", "a.org"), id="last_dot"),
        pytest.param(hello_with(b"a.org\0.b.org"), ("tls", "a.org\0.b.org"), id="nul"),
        pytest.param(hello_with(b"\xff.org"), ("tls", "\\xff.org"), id="no_ascii"),
        pytest.param(hello_with(b""), ("tls", ""), id="empty_name"),
        pytest.param(record(b"\2\0\0\1x"), ("tls",), id="another_message"),
        pytest.param(record(b"\1\0\0\1x"), ("tls",), id="message_of_nothing"),
        pytest.param(record(b""), ("tls",), id="empty_record"),
        pytest.param(bytes([22, 2, 0, 0, 9]), ("tls",), id="another_version"),
        pytest.param(record(MESSAGE[:9]) + record(MESSAGE[9:], 23), ("tls",), id="another_record_between"),
    ],
)
def test_tls(data, expected):
    """
    Every server name is found, however the message is cut into records; what contradicts itself names nobody.
    """
    assert expected == said(data)


@pytest.mark.parametrize("data", [HELLO, hello_with(b"a.org")])
def test_tls_in_pieces(data):
    """
    Each beginning of a ClientHello asks for more.
    """
    assert {("more",)} == {said(data[:end]) for end in range(len(data))}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"GET / HTTP/1.1\r\nHost: OK.test\r\n\r\n", ("http", "ok.test")),
        (b"GET / HTTP/1.1\r\nhost:ok.test:8080\r\n\r\nbody", ("http", "ok.test")),
        (b"GET / HTTP/1.1\nHOST : \tok.test. \n\n", ("http", "ok.test")),
        (b"POST / HTTP/1.0\r\n\r\n", ("http",)),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", ("http", "a", "b")),
        (b"GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n", ("http", "a", "b")),
        (b"GET http://u@b:1/x HTTP/1.1\r\nHost: b\r\n\r\n", ("http", "b", "b")),
        (b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", ("http",)),
        (b"GET / HTTP/1.1\r\nX: y\r\n Host: b\r\n\r\n", ("http",)),
        (b"GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", ("http", "a\0b")),
        (b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", ("http", "[::1]")),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ("http",)),
        (b"SSH-2.0-OpenSSH_9.2\r\n", ("other",)),
        (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", ("other",)),
        (b"GETX / HTTP/1.1\r\n", ("other",)),
        (b"get / HTTP/1.1\r\n", ("other",)),
    ],
)
def test_http(data, expected):
    """
    Every Host is found, and the target's; what is no request names nobody.
    """
    assert expected == said(data)


def test_http_in_pieces():
    """
    Each beginning of a request asks for more.
    """
    data = b"OPTIONS * HTTP/1.1\r\nHost: ok.test\r\n\r\n"

    assert {("more",)} == {said(data[:end]) for end in range(len(data))}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"GET /" + b"x" * GREETING_BYTES_MAX, "http"),
        (record(b"\1\xff\xff\xff" + bytes(16380)), "tls"),
    ],
)
def test_what_does_not_end_names_nobody(data, expected):
    """
    There is a limit to asking for more.
    """
    assert (expected,) == said(data)
