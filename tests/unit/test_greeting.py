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
        (b"EHLO mail.test\r\n", ("other",)),
        (b"0032git-upload-pack /x\0host=ok.test\0", ("other",)),
        (b"AMQP\0\0\x09\1", ("other",)),
        (b"*1\r\n$4\r\nPING\r\n", ("other",)),
    ],
)
def test_http(data, expected):
    """
    Every Host is found, and the target's; what is no request names nobody.
    """
    assert expected == said(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n",
        b"\n\r\n GET / HTTP/1.1\r\nHost: b\r\n\r\n",
        b"GET  /  HTTP/1.1 \r\nHost: b\r\n\r\n",
        b"GET\t/\x0bHTTP/1.1\r\nHost: b\r\n\r\n",
        b"PURGE / HTTP/1.1\r\nHost: b\r\n\r\n",
        b"x" * 99 + b" / HTTP/1.1\r\nHost: b\r\n\r\n",
        b"get / http/1.1\r\nHost: b\r\n\r\n",
        b"GET / and more HTTP/1.1\r\nHost: b\r\n\r\n",
        b"GET / HTTP/9\r\nHost\x0b:\x0bb\r\n\r\n",
        b"CONNECT b:443 HTTP/1.1\r\n\r\n",
        b"GET HTTP://b/ HTTP/1.1\r\n\r\n",
        b"GET  http://b/ HTTP/1.1\r\n\r\n",
        b"GET\thttp://a@b:1/ HTTP/1.1\r\n\r\n",
    ],
)
def test_http_that_some_server_takes(data):
    """
    What is no good HTTP and is answered by some server all the same says whom it talks to.
    """
    assert ("http", "b") == said(data)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nX: y\rHost: b\r\nHost: a\r\n\r\n",
        b"GET http://b\\@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\r\n\r\n",
    ],
)
def test_http_that_is_read_in_two_ways(data):
    """
    Of what is read in two ways no name counts; HTTP/0.9 has none.
    """
    assert ("http",) == said(data)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x15\3\1\0\2\1\x5a" + HELLO, "tls"),
        (b"\x14\3\3\0\1\1", "tls"),
        (b"\x80\x2e\1\3\1\0\x15\0\0\0\x10", "tls"),
        (b"\x15\3", "more"),
        (b"\x15\x09\1\0", "other"),
        (b"\x80\x2e\x09\3\1", "other"),
    ],
)
def test_tls_that_some_server_takes(data, expected):
    """
    An alert before a ClientHello, which Go's server passes over, or one of SSL 2.0: there is no name.
    """
    assert (expected,) == said(data)


@pytest.mark.parametrize("data", [b"word", b"word and word", b"\r\n", b"PURGE"])
def test_what_may_become_a_request(data):
    """
    A method is any token, so that a word is no answer.
    """
    assert [("more",), ("other",)] == [said(data), said(data + b" \0")]


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
