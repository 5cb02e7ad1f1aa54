"""
What a proxy is asked for. Each case is bytes. RFC 9112
"""

import pytest

from jail.forward import HEAD_BYTES_MAX, BadRequestError, read_request, render_answer


def asked(data):
    """
    Whom a request means, and the lines that the server gets; or the status of its refusal.
    """
    try:
        request = read_request(data)
    except BadRequestError as exc:
        return exc.status
    if request is None:
        return None
    host = request.name if request.address is None else request.address
    return (str(host), request.port, *request.head.decode("latin-1").split("\r\n")[:-2])


def get(target, *fields, host="Host: x", version="1.1", method="GET"):
    """
    A request of this target.
    """
    lines = [f"{method} {target} HTTP/{version}", *([host] if host else []), *fields]
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        pytest.param("ok.test:443", ("ok.test", 443), id="name"),
        pytest.param("OK.Test.:443", ("ok.test", 443), id="one_spelling"),
        pytest.param("127.0.0.1:1", ("127.0.0.1", 1), id="address"),
        pytest.param("[2001:DB8::1]:65535", ("2001:db8::1", 65535), id="address_of_ipv6"),
        pytest.param("localhost:80", ("127.0.0.1", 80), id="loopback_by_name"),
        pytest.param("ok.test", 400, id="refuse_no_port"),
        pytest.param("ok.test:", 400, id="refuse_empty_port"),
        pytest.param("ok.test:0", 400, id="refuse_port_0"),
        pytest.param("ok.test:65536", 400, id="refuse_port_too_large"),
        pytest.param("ok.test:0443", 400, id="refuse_octal_port"),
        pytest.param("ok.test:+443", 400, id="refuse_sign"),
        pytest.param("ok.test:443:443", 400, id="refuse_two_ports"),
        pytest.param(":443", 400, id="refuse_no_host"),
        pytest.param("me@ok.test:443", 400, id="refuse_user"),
        pytest.param("0x7f000001:80", 400, id="refuse_hexadecimal"),
        pytest.param("0177.0.0.1:80", 400, id="refuse_octal"),
        pytest.param("2130706433:80", 400, id="refuse_decimal"),
        pytest.param("127.1:80", 400, id="refuse_short"),
        pytest.param("::1:80", 400, id="refuse_without_brackets"),
        pytest.param("[127.0.0.1]:80", 400, id="refuse_brackets"),
        pytest.param("[fe80::1%25lo]:80", 400, id="refuse_zone"),
        pytest.param("ok%2etest:80", 400, id="refuse_percent"),
        pytest.param("-ok.test:80", 400, id="refuse_hyphen"),
        pytest.param("ok..test:80", 400, id="refuse_empty_label"),
        pytest.param("ok.test..:80", 400, id="refuse_two_dots"),
        pytest.param("http://ok.test:80", 400, id="refuse_scheme"),
        pytest.param("ok.test:80/", 400, id="refuse_path"),
        pytest.param("\xf6k.test:80", 400, id="refuse_beyond_ascii"),
    ],
)
def test_connect(target, expected):
    """
    CONNECT has a host in its one spelling, and a port.
    """
    assert expected == asked(get(target, method="CONNECT"))


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        pytest.param("http://ok.test/a?b", ("ok.test", 80, "GET /a?b HTTP/1.1", "Host: ok.test"), id="path"),
        pytest.param("HTTP://OK.test", ("ok.test", 80, "GET / HTTP/1.1", "Host: ok.test"), id="no_path"),
        pytest.param("http://ok.test?b", ("ok.test", 80, "GET /?b HTTP/1.1", "Host: ok.test"), id="query"),
        pytest.param(
            "http://ok.test:81//c", ("ok.test", 81, "GET //c HTTP/1.1", "Host: ok.test:81"), id="port"
        ),
        pytest.param("http://ok.test:80/", ("ok.test", 80, "GET / HTTP/1.1", "Host: ok.test"), id="port_80"),
        pytest.param("http://[::1]:81/", ("::1", 81, "GET / HTTP/1.1", "Host: [::1]:81"), id="ipv6"),
        pytest.param(
            "http://localhost/", ("127.0.0.1", 80, "GET / HTTP/1.1", "Host: localhost"), id="localhost"
        ),
        pytest.param("/", 400, id="refuse_origin_form"),
        pytest.param("*", 400, id="refuse_asterisk"),
        pytest.param("ok.test:80", 400, id="refuse_authority_form"),
        pytest.param("https://ok.test/", 400, id="refuse_tls"),
        pytest.param("ftp://ok.test/", 400, id="refuse_ftp"),
        pytest.param("http:/ok.test/", 400, id="refuse_one_slash"),
        pytest.param("http:///a", 400, id="refuse_no_host"),
        pytest.param("http://ok.test@evil.test/", 400, id="refuse_user"),
        pytest.param("http://ok.test\\@evil.test/", 400, id="refuse_backslash"),
        pytest.param("http://ok.test:/", 400, id="refuse_empty_port"),
        pytest.param("http://ok.test/#a", 400, id="refuse_fragment"),
        pytest.param("http://ok.test#@evil.test/", 400, id="refuse_fragment_in_host"),
        pytest.param("http://ok.test/\x7f", 400, id="refuse_control"),
        pytest.param("http://ok.test/\xe4", 400, id="refuse_beyond_ascii"),
    ],
)
def test_absolute_form(target, expected):
    """
    The server gets the origin form, and the Host that was judged, whatever else was said.
    """
    closing = ("Connection: close",) if isinstance(expected, tuple) else ()
    expected = (*expected, *closing) if closing else expected

    assert expected == asked(get(target))


def test_options():
    """
    Of a server as a whole. RFC 9112 section 3.2.4
    """
    assert "OPTIONS * HTTP/1.1" == asked(get("http://ok.test", method="OPTIONS"))[2]
    assert "OPTIONS / HTTP/1.1" == asked(get("http://ok.test/", method="OPTIONS"))[2]


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        pytest.param(["A: b", "a:c", "B:"], ["A: b", "a:c", "B:"], id="as_they_are"),
        pytest.param(["A: \xe9"], ["A: \xe9"], id="beyond_ascii"),
        pytest.param(
            ["Proxy-Connection: keep-alive", "Keep-Alive: 9", "TE: trailers", "Upgrade: h2c", "A: b"],
            ["A: b"],
            id="hop_by_hop",
        ),
        pytest.param(["Proxy-Authorization: Basic eA==", "A: b"], ["A: b"], id="password"),
        pytest.param(
            ["X: y", "Connection: x, keep-alive", "connection: Z", "z: 1"], [], id="named_by_connection"
        ),
        pytest.param(["Content-Length: 3"], ["Content-Length: 3"], id="length"),
        pytest.param(["Transfer-Encoding: Chunked"], ["Transfer-Encoding: Chunked"], id="chunked"),
        pytest.param(["Host: y"], 400, id="refuse_two_hosts"),
        pytest.param(["Content-Length: 3", "Content-Length: 3"], 400, id="refuse_two_lengths"),
        pytest.param(["Content-Length: 3, 3"], 400, id="refuse_list_of_lengths"),
        pytest.param(["Content-Length: +3"], 400, id="refuse_sign"),
        pytest.param(["Content-Length: 0x3"], 400, id="refuse_hexadecimal"),
        pytest.param(["Content-Length:"], 400, id="refuse_no_length"),
        pytest.param(["Content-Length: " + "9" * 19], 400, id="refuse_long_length"),
        pytest.param(["Content-Length: 3", "Transfer-Encoding: chunked"], 400, id="refuse_length_and_chunks"),
        pytest.param(["Transfer-Encoding: gzip, chunked"], 400, id="refuse_other_coding"),
        pytest.param(["Transfer-Encoding: xchunked"], 400, id="refuse_almost_chunked"),
        pytest.param(["Transfer-Encoding: chunked"] * 2, 400, id="refuse_chunked_twice"),
        pytest.param(["Transfer-Encoding : chunked"], 400, id="refuse_space_before_colon"),
        pytest.param(["Connection: Content-Length", "Content-Length: 3"], 400, id="refuse_length_taken_away"),
        pytest.param(["Connection: close, host"], 400, id="refuse_host_taken_away"),
        pytest.param([" A: b"], 400, id="refuse_folded_first"),
        pytest.param(["A: b", "\tc"], 400, id="refuse_folded"),
        pytest.param(["A"], 400, id="refuse_no_colon"),
        pytest.param([": b"], 400, id="refuse_no_name"),
        pytest.param(["A: b\0c"], 400, id="refuse_nul"),
        pytest.param(["A: b\rHost: c"], 400, id="refuse_cr"),
        pytest.param(["A: b\nHost: c"], 400, id="refuse_lf"),
        pytest.param(["A\xe9: b"], 400, id="refuse_name_beyond_ascii"),
    ],
)
def test_fields(fields, kept):
    """
    What is for the server stays as it is; what says two things about a request's end or host is none.
    """
    seen = asked(get("http://ok.test/", *fields))
    if isinstance(kept, int):
        assert kept == seen
    else:
        assert ("Host: ok.test", *kept, "Connection: close") == seen[3:]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"", None, id="nothing_yet"),
        pytest.param(b"GET http://ok.t", None, id="line_to_come"),
        pytest.param(b"GET http://ok.test/ HTTP/1.1\r\nHost: a\r\n", None, id="end_to_come"),
        pytest.param(b"GET http://" + b"a" * HEAD_BYTES_MAX, 431, id="refuse_long_line"),
        pytest.param(
            get("http://ok.test/", "A: " + "b" * HEAD_BYTES_MAX)[:-4], 431, id="refuse_long_head_to_come"
        ),
        pytest.param(get("http://ok.test/", "A: " + "b" * HEAD_BYTES_MAX), 431, id="refuse_long_head"),
        pytest.param(b"\x16\x03\x01", 400, id="refuse_tls"),
        pytest.param(b"\x05\x01\x00", 400, id="refuse_socks"),
        pytest.param(b"\r\nGET http://ok.test/ HTTP/1.1\r\n\r\n", 400, id="refuse_empty_line"),
        pytest.param(b"GET http://ok.test/ HTTP/1.1\nHost: a\n\n", 400, id="refuse_bare_lf"),
        pytest.param(b"GET http://ok.test/ HTTP/2.0\r\n", 400, id="refuse_version"),
        pytest.param(b"GET http://ok.test/\r\n\r\n", 400, id="refuse_no_version"),
        pytest.param(b"GET  http://ok.test/ HTTP/1.1\r\n", 400, id="refuse_two_spaces"),
        pytest.param(b"GET\thttp://ok.test/ HTTP/1.1\r\n", 400, id="refuse_tab"),
        pytest.param(b"GET http://ok.test/ HTTP/1.1 \r\n", 400, id="refuse_space_at_the_end"),
        pytest.param(b"GET http://ok.test/ b HTTP/1.1\r\n", 400, id="refuse_space_in_target"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, id="refuse_http2"),
        pytest.param(get("http://ok.test/", host=""), 400, id="refuse_no_host"),
        pytest.param(
            get("http://ok.test/", host="", version="1.0"),
            ("ok.test", 80, "GET / HTTP/1.0", "Host: ok.test", "Connection: close"),
            id="no_host_of_1.0",
        ),
        pytest.param(
            get("http://ok.test/", "Transfer-Encoding: chunked", version="1.0"), 400, id="refuse_chunks_of_1.0"
        ),
        pytest.param(get("ok.test:1", host="", method="CONNECT"), ("ok.test", 1), id="connect_without_host"),
        pytest.param(get("ok.test:1", method="connect"), 400, id="refuse_other_case"),
        pytest.param(get("ok.test:1", "Content-Length: 0", method="CONNECT"), ("ok.test", 1), id="no_body"),
        pytest.param(get("ok.test:1", "Content-Length: 1", method="CONNECT"), 400, id="refuse_body"),
        pytest.param(
            get("ok.test:1", "Transfer-Encoding: chunked", method="CONNECT"), 400, id="refuse_chunked_body"
        ),
    ],
)  # fmt: skip
def test_heads(data, expected):
    """
    A head is whole, short enough and written in one way, or it is none.
    """
    assert expected == asked(data)


def test_what_comes_behind_is_not_read():
    """
    The size is of the head alone.
    """
    head = get("http://ok.test/", "Content-Length: 9")

    assert len(head) == read_request(head + b"\r\n\r\nGET /").size


def test_answer():
    """
    The reason is in the line that clients show, and nothing of it makes another line.
    """
    head, _, body = render_answer(403, "no\r\nX: \xe4", "why, and the cure").decode().partition("\r\n\r\n")

    assert "HTTP/1.1 403 Forbidden (jail: no??X: ?)" == head.split("\r\n")[0]
    assert "jail: why, and the cure\n" == body
    assert f"Content-Length: {len(body)}" in head
