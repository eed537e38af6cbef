"""The words of the grammar: those on which readers of HTTP differ, each as often as it is to be drawn."""

from __future__ import annotations

from typing import Final

METHODS: Final = (
    *(b"GET",) * 6,
    *(b"POST",) * 6,
    *(b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"CONNECT", b"PRI", b"SOURCE", b"M-SEARCH"),
    *(b"PURGE", b"PROPFIND", b"QUERY", b"get", b"FOO", b"", b"GET\t", b"G@T", b"\xc9"),
)
TARGETS: Final = (
    *(b"/",) * 4,
    *(b"http://a/",) * 4,
    *(b"/x?y=1", b"http://a:80/x", b"http://a", b"http://a?q", b"https://a/", b"HTTP://A/", b"http://[::1]:8/", b"*"),
    *(b"a:80", b"a:443", b"//", b"//b/c", b"/%00", b"/%2e%2e/", b"http://u:p@a/", b"http://a@b/", b"http:///"),
    *(b"http:/a", b"/{}|^", b'/"<>`', b"/a#b", b"/\\b", b"x", b"", b"/\xe9", b"/a b", b"ftp://a/", b"http://a:/"),
    *(b"http://a:99999/", b"/x;y", b"/x:y", b"/?", b"http://xn--a/", b"http://%61/"),
)
VERSIONS: Final = (
    *(b"HTTP/1.1",) * 20,
    *(b"HTTP/1.0",) * 4,
    *(b"HTTP/2.0", b"HTTP/1.2", b"HTTP/0.9", b"http/1.1", b"HTTP/1.1 ", b"HTTP/01.1", b"HTTP/1.10", b"RTSP/1.0"),
    *(b"ICE/1.0", b"", b"HTTP/1,1", b"HTTP /1.1", b"HTTP/1.1\t"),
)
STATUSES: Final = (
    *(b"200 OK",) * 8,
    *(b"204 No Content", b"304 Not Modified", b"206 Partial Content", b"401 Unauthorized", b"500 Oops", b"599 "),
    *(b"302 ", b"200", b"200 ", b"600 x", b"099 x", b"99 x", b"2000 x", b"20 x", b"200\tOK", b"200  OK", b"+20 x"),
    *(b"200 \xe9", b"x", b"200 a\x01", b"200 a\x7f", b"205 Reset Content", b"100 Continue"),
    *(b"101 Switching Protocols", b"418 \xc3\xa9"),
)
HOSTS: Final = (
    *(b"Host: a",) * 24,
    *(b"host:a", b"HOST:\ta ", b"Host: a:80", b"Host:", b"Host: a, b", b"Host: a b", b"Host : a", b"Host: [::1]"),
    *(b"Host: \xe9", b"Host: a@b", b"", b"Host: a\r\nHost: a", b"Host: a\r\nHost: b", b"X-Host: a", b"Host\x00: a"),
    b"Ho\rst: a",
)
PLAIN: Final = (
    *(
        b"Accept: */*",
        b"User-Agent: x",
        b"Cookie: a=b; c",
        b"X-A:1",
        b"X-B: \t 2 \t",
        b"X_C: 3",
        b"X.D: 4",
        b"Max-Forwards: 3",
        b"Proxy_Authorization: x",
        b"X-Forwarded_Host: b",
    ),
    *(b"Via: 1.1 v", b"Authorization: Bearer t", b"AUTHORIZATION: Basic b", b"Proxy-Authorization: Basic c"),
    *(b"Date: today", b"Origin: null", b"Content-Type: text/plain", b"Content-Encoding: gzip", b"ETag: x"),
    *(b"X-Empty:", b"X-Obs: \xe9\xff", b"X-Comma: a, b,,c", b"Set-Cookie: a=b", b"Set-Cookie: c=d", b"Server: s"),
    *(b"Forwarded: for=a", b"X-Forwarded-For: a", b"Range: bytes=0-1", b"!#$%&'*+-.^_`|~: token", b"X-Colon: a:b"),
    *(b'X-Quote: "a, b"', b"Sec-WebSocket-Key: x", b"Content-Range: bytes 0-1/2"),
)
HOPS: Final = (
    *(b"Connection: close", b"Connection: keep-alive", b"connection: Close", b"Connection: keep-alive, X-A"),
    *(b"Connection: te", b"Connection: upgrade", b"Connection: Upgrade, HTTP2-Settings", b"Connection:,, x-b ,"),
    *(b"Connection: x_c", b"Connection:", b"Connection: authorization, host, content-length"),
    *(b"Connection: transfer-encoding, close", b"Connection: \xe9, x-a", b"Connection: close;x"),
    *(b"Connection: close\tx", b"Connection: expect, date", b'Connection: "close"', b"Connection: close, "),
    *(b"Keep-Alive: timeout=5", b"Keep-Alive: timeout=0", b"Proxy-Connection: keep-alive", b"TE: trailers"),
    *(
        b"Trailer: X-T",
        b"Upgrade: h2c",
        b"Upgrade: websocket",
        b"Connection: Upgrade\r\nUpgrade: WebSocket",
        b"Upgrade: ",
        b"HTTP2-Settings: AA",
    ),
    *(b"Proxy-Authenticate: Basic", b"TE:", b"Expect: 100-continue", b"Expect: 100-Continue", b"Expect: x"),
    *(b"Expect:", b"Expect: 100-continue, x"),
)
FRAMING: Final = (
    *(b"Content-Length: 5",) * 4,
    *(b"Transfer-Encoding: chunked",) * 4,
    *(b"Content-Length: 0", b"Content-Length:05", b"Content-Length: +5", b"Content-Length: -5"),
    *(b"Content-Length: 5, 5", b"Content-Length: 5,6", b"Content-Length: 0x5", b"Content-Length: 5 5"),
    *(b"Content-Length:", b"Content-Length: 5.0", b"Content-Length: 1_0", b"Content-Length: \xb2"),
    *(b"Content-Length: 99999999999999999999", b"Content-Length : 5", b"Content_Length: 5", b"content-length:5"),
    *(b"Content-Length\t: 5", b" Content-Length: 5", b"Content-Length: 000000000000000000005"),
    *(b"Transfer-Encoding: Chunked", b"Transfer-Encoding:chunked", b"transfer-encoding: chunked"),
    *(b"Transfer-Encoding : chunked", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked, gzip"),
    *(b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: xchunked"),
    *(b"Transfer-Encoding: chunked;q=1", b"Transfer-Encoding: \x0bchunked", b"Transfer-Encoding: chunked\x00"),
    *(b"Transfer-Encoding:\tchunked\t", b"Transfer-Encoding:", b"Transfer-Encoding: ,chunked"),
    *(b"Transfer-Encoding: chunked,", b'Transfer-Encoding: "chunked"', b"Transfer_Encoding: chunked"),
    *(b"Transfer-Encoding:\r\n chunked", b"Transfer-Encoding\r\n: chunked", b"Transfer-Encoding: chun\xe9ed"),
    b"Transfer-Encoding: \xe9chunked",
)
SIZES: Final = (
    *(b"%x",) * 10,
    *(b"%X", b"0%x", b"00000000%x", b"0x%x", b"+%x", b" %x", b"%x ", b"%x\t", b"1%x", b"-%x", b"%xg"),
)
EXTENSIONS: Final = (
    *(b"",) * 12,
    *(b";a", b";a=b", b';a="b;c"', b" ;a", b"; a", b";", b";;", b';a="\r\n"', b";\xe9", b";a\x00", b";a\n", b";a\rb"),
    b"\t;a=1",
)
ENDS: Final = (
    *(b"\r\n",) * 16,
    *(b"\n", b"\r", b"\r\r\n", b"", b" \r\n", b"\n\r"),
)
TRAILERS: Final = (
    *(b"",) * 8,
    *(b"X-T: 1\r\n", b"Content-Length: 5\r\n", b"X-T:\r\n", b"X-T\r\n", b" X: 1\r\n", b"X-T: 1\r\n y\r\n"),
    *(b"X-T : 1\r\n", b"X-T: \xe9\r\n", b"Host: evil\r\nAuthorization: x\r\n", b": x\r\n", b"X\x00: 1\r\n"),
    *(b"X: a\rb\r\n", b"X: 1\n"),
)
BODIES: Final = (
    *(b"hello",) * 2,
    *(b"", b"h", b"GET / HTTP/1.1\r\nHost: b\r\n\r\n", b"0\r\n\r\n", b"\r\n", b"\x00\xff", b"hello world"),
)
NEXT: Final = (
    *(b"",) * 10,
    *(b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n",) * 4,
    *(b"\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", b"\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", b"x", b"\r\n", b"\r"),
    b"HTTP/1.1 200 OK\r\n\r\n",
)
INTERIM: Final = (
    *(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", b"HTTP/1.0 100 \r\n\r\n"),
    *(b"HTTP/1.1 102 \r\nContent-Length: 5\r\n\r\n", b"HTTP/1.1 103 x\r\nTransfer-Encoding: chunked\r\n\r\n"),
    b"HTTP/1.1 100\r\n\r\n",
)
ODD: Final = (
    *(b"\r", b"\n", b"\r\n", b"\x00", b"\x0b", b"\x0c", b" ", b"\t", b":", b",", b";", b"\x7f", b"\x85", b"\xa0"),
    *(b"\xff", b"#", b"\\", b'"', b"@", b"/", b"0", b"5", b"a", b"_", b"-", b"\r\n ", b"\r\n\t", b"\r\n\r\n"),
    *(b"\n\n", b"\r\r", b"\xef\xbb\xbf"),
)
