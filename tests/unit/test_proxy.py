"""Which proxy a policy means, for whom it serves, and what is said to it. RFC 9110 section 9.3.6, RFC 1928, RFC 1929"""

import pytest

import jail
from jail.address import parse_address
from jail.handshake import RefusedError, Step, handshake
from jail.proxy import Proxy, parse_proxy, proxy_of

SECRET = "s3cret"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(None, None, id="allow_none"),
        pytest.param("environment", "environment", id="allow_environment"),
        pytest.param("HTTP://Proxy.Test:3128/", "http://proxy.test:3128", id="allow_one_spelling"),
        pytest.param("socks5h://10.0.0.1:1080", "socks5://10.0.0.1:1080", id="allow_socks5h"),
        pytest.param("http://[::1]:3128", "http://[::1]:3128", id="allow_ipv6"),
    ],
)
def test_parse_proxy(text, expected):
    """
    A proxy is kept in its one spelling, which parses to itself.
    """
    assert (expected, expected) == (parse_proxy(text), parse_proxy(parse_proxy(text)))


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(f"http://user:{SECRET}@proxy.test:3128", id="refuse_password"),
        pytest.param(f"https://user:{SECRET}@proxy.test", id="refuse_password_of_what_is_none"),
        pytest.param(f"http://{SECRET}@proxy.test:1", id="refuse_user"),
        pytest.param("https://proxy.test:3128", id="refuse_tls"),
        pytest.param("http://proxy.test", id="refuse_no_port"),
        pytest.param("http://proxy.test:65536", id="refuse_port"),
        pytest.param("http://proxy.test:1/path", id="refuse_path"),
        pytest.param("http://a\r\nb:1", id="refuse_line_break"),
        pytest.param("http://0x7f.1:1", id="refuse_odd_address"),
        pytest.param("http://[127.0.0.1:1", id="refuse_bracket"),
        pytest.param(3128, id="refuse_number"),
    ],
)
def test_refuse_proxy(value):
    """
    What is no proxy, or holds a password, is refused by a policy that does not repeat it.
    """
    with pytest.raises(jail.PolicyError, match="network_proxy") as caught:
        jail.Policy(network=["a.org"], network_proxy=value)

    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        pytest.param(
            {"HTTPS_PROXY": "http://b:1", "https_proxy": "http://a:1"}, "http://a:1", id="lower_case_first"
        ),
        pytest.param(
            {"ALL_PROXY": "socks5://b:1", "HTTPS_PROXY": "a:1"}, "http://a:1", id="https_before_all"
        ),
        pytest.param({"ALL_PROXY": "socks5h://b:1", "HTTPS_PROXY": ""}, "socks5://b:1", id="empty_is_none"),
    ],
)
def test_environment(environment, expected):
    """
    The harness's variables are read in curl's order.
    """
    assert expected == str(proxy_of("environment", environment))


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        pytest.param({}, "neither is set", id="refuse_missing"),
        pytest.param({"NO_PROXY": "*"}, "neither is set", id="refuse_only_exceptions"),
        pytest.param({"HTTPS_PROXY": f"ftp://u:{SECRET}@a:1"}, "HTTPS_PROXY is no proxy", id="refuse_scheme"),
        pytest.param({"ALL_PROXY": f"socks5://:{SECRET}@a:1"}, "ALL_PROXY needs a user", id="refuse_no_user"),
        pytest.param({"ALL_PROXY": f"http://u:{SECRET * 50}@a:1"}, "more than 255", id="refuse_long"),
    ],
)
def test_refuse_environment(environment, words):
    """
    A variable that is missing or nonsense is an error in words, which does not repeat it.
    """
    with pytest.raises(jail.PolicyError, match=words) as caught:
        proxy_of("environment", environment)

    assert SECRET not in str(caught.value)


def test_password_is_not_shown():
    """
    A user and a password are decoded for the proxy, and shown by nothing.
    """
    proxy = proxy_of("environment", {"HTTPS_PROXY": f"http://us%40er:{SECRET}@a:1"})

    assert (b"us@er", SECRET.encode()) == (proxy.user, proxy.password)
    assert SECRET not in f"{proxy!r} {proxy}"
    assert "us@er" not in f"{proxy!r} {proxy}"


@pytest.mark.parametrize(
    ("name", "address", "expected"),
    [
        pytest.param("other.org", "198.18.0.16", True, id="name"),
        pytest.param("in.test", "198.18.0.16", False, id="exception"),
        pytest.param("a.in.test", "198.18.0.16", False, id="below_exception"),
        pytest.param("login.test", "198.18.0.16", True, id="only_at_a_dot"),
        pytest.param(None, "10.1.2.3", False, id="network"),
        pytest.param(None, "10.2.2.3", True, id="other_network"),
        pytest.param(None, "127.0.0.1", False, id="loopback"),
        pytest.param(None, "::ffff:127.0.0.1", False, id="mapped_loopback"),
    ],
)
def test_serves(name, address, expected):
    """
    NO_PROXY's names, what is below them, its networks, and loopback go without the proxy.
    """
    proxy = proxy_of("environment", {"ALL_PROXY": "http://p:1", "NO_PROXY": " .in.test, 10.1.0.0/16 ,"})

    assert expected == proxy.serves(name, parse_address(address))


def talk(proxy, host, answers):
    """
    What is sent, and what is asked for, one after the other.
    """
    steps = handshake(proxy, host, 443)
    said = [next(steps)]
    for answer in answers:
        try:
            said.append(steps.send(answer))
        except StopIteration:
            return said
    raise AssertionError(said)


HTTP = Proxy("http", "p", 1)
SOCKS = Proxy("socks5", "p", 1)
LOGIN = {"user": b"me", "password": b"pw"}


def test_http_bytes():
    """
    CONNECT has the target twice, a password only where there is one, and passes over interim answers.
    """
    asked = b"CONNECT ok.test:443 HTTP/1.1\r\nHost: ok.test:443\r\n"
    with_login = Proxy("http", "p", 1, **LOGIN)
    interim = [b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 200\r\n\r\n"]

    assert [Step(asked + b"\r\n")] == talk(HTTP, "ok.test", [b"HTTP/1.0 200 Connection established\r\n\r\n"])
    assert [Step(asked + b"\r\n"), Step(b"")] == talk(HTTP, "ok.test", interim)
    assert b"Proxy-Authorization: Basic bWU6cHc=\r\n\r\n" in talk(with_login, "ok.test", interim)[0].send
    assert talk(HTTP, "2001:db8::1", interim)[0].send.startswith(b"CONNECT [2001:db8::1]:443 ")


def test_socks_bytes():
    """
    Names go as names and addresses as addresses, behind a password where there is one.
    """
    answers = [b"\x05\x00", b"\x05\x00\x00\x01", bytes(6)]
    by_name = [Step(b"\x05\x01\x00", 2), Step(b"\x05\x01\x00\x03\x07ok.test\x01\xbb", 4), Step(b"", 6)]
    login = [b"\x05\x02", b"\x01\x00", b"\x05\x00\x00\x03", b"\x03", bytes(5)]

    assert by_name == talk(SOCKS, "ok.test", answers)
    assert Step(b"\x05\x01\x00\x01\x0a\x01\x02\x03\x01\xbb", 4) == talk(SOCKS, "10.1.2.3", answers)[1]
    assert b"\x05\x01\x00\x04" + bytes(15) + b"\x01\x01\xbb" == talk(SOCKS, "::1", answers)[1].send
    assert [
        Step(b"\x05\x01\x02", 2),
        Step(b"\x01\x02me\x02pw", 2),
        Step(b"\x05\x01\x00\x01\x0a\x01\x02\x03\x01\xbb", 4),
        Step(b"", 1),
        Step(b"", 5),
    ] == talk(Proxy("socks5", "p", 1, **LOGIN), "10.1.2.3", login)


@pytest.mark.parametrize(
    ("proxy", "answers", "words"),
    [
        pytest.param(HTTP, [b"HTTP/1.1 407 x\r\n\r\n"], "407 .it wants another", id="http_password"),
        pytest.param(HTTP, [b"HTTP/1.1 403 x\r\n\r\n"], "403 .it forbids", id="http_forbidden"),
        pytest.param(HTTP, [b"HTTP/1.1 302 x\r\n\r\n"], "status 302$", id="http_redirect"),
        pytest.param(HTTP, [b"HTTP/1.1 101 x\r\n\r\n"], "status 101$", id="http_switch"),
        pytest.param(HTTP, [b"HTTP/1.1 100 x\r\n\r\n"] * 9, "without end", id="http_interim"),
        pytest.param(HTTP, [b"SSH-2.0-x\r\n\r\n"], "no HTTP", id="http_other"),
        pytest.param(HTTP, [b"HTTP/1.1 200\x0aOK\r\n\r\n"], "no HTTP", id="http_line_end"),
        pytest.param(SOCKS, [b"\x04\x00"], "no SOCKS5", id="socks_version"),
        pytest.param(SOCKS, [b"\x05\xff"], "wants a user", id="socks_no_method"),
        pytest.param(SOCKS, [b"\x05\x02"], "wants a user", id="socks_other_method"),
        pytest.param(
            Proxy("socks5", "p", 1, **LOGIN), [b"\x05\x00"], "takes no password", id="socks_downgrade"
        ),
        pytest.param(
            Proxy("socks5", "p", 1, **LOGIN), [b"\x05\x02", b"\x01\x01"], "another", id="socks_password"
        ),
        pytest.param(SOCKS, [b"\x05\x00", b"\x05\x02\x00\x01"], "2 .not allowed", id="socks_rules"),
        pytest.param(SOCKS, [b"\x05\x00", b"\x05\xfe\x00\x01"], "reply 254$", id="socks_unknown_reply"),
        pytest.param(SOCKS, [b"\x05\x00", b"\x05\x00\x00\x09"], "no known type", id="socks_address_type"),
    ],
)
def test_refuse_answer(proxy, answers, words):
    """
    An answer that opens no way ends the handshake, in words of ours.
    """
    with pytest.raises(RefusedError, match=words):
        talk(proxy, "ok.test", answers)


def test_refuse_datagrams():
    """
    What no proxy carries is refused beside one.
    """
    with pytest.raises(jail.PolicyError, match="no proxy carries"):
        jail.Policy(network=["192.0.2.1:53000/udp"], network_proxy="http://proxy.test:3128")
    jail.Policy(network=["192.0.2.1:53000/tcp"], network_proxy="http://proxy.test:3128")
