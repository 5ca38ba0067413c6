"""Pages from addresses that strangers wrote: what leads inside, what never ends, what unfolds; proxies and real TLS."""

import base64
import gzip
import ipaddress
import json
import os
import select
import socket
import ssl
import subprocess
import sys
import threading
import traceback
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from cerebro_nb import errors
from cerebro_nb.concurrency.loop import LOOP
from cerebro_nb.documents.fetching import fetch, is_public, read_url

BOMB = gzip.compress(bytes(60_000_000))


class Pages(BaseHTTPRequestHandler):
    """Serves pages and worse, and writes down what it was asked for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append((self.path, dict(self.headers)))
        path = self.path
        if path.startswith("/to?"):
            self.send_response(302)
            self.send_header("location", path.partition("?")[2])
            self.send_header("content-length", "0")
            self.end_headers()
        elif path == "/drip":
            self.send_response(200)
            self.end_headers()
            while not self.server.ended.wait(0.02):
                self.wfile.write(b"x")
        elif path in ("/gzip", "/bomb", "/cut"):
            packed = BOMB if path == "/bomb" else gzip.compress(b"honest text")
            self.reply(packed if path != "/cut" else packed[:-9], {"content-encoding": "gzip"})
        elif path == "/damaged":
            self.reply(self.server.damaged, {"content-encoding": "gzip"})
        elif path == "/deflate":
            self.reply(zlib.compress(b"text"), {"content-encoding": "deflate"})
        else:
            self.reply("olá".encode("latin-1"), {"content-type": "text/plain; charset=latin-1"})

    def reply(self, body, headers):
        self.send_response(200)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Proxy(Pages):
    """A proxy that knows one name more than we do: ``docs.invalid`` is the server on loopback."""

    def do_GET(self):
        self.server.asked.append((self.path, dict(self.headers)))
        told = urlsplit(self.path)
        self.reply(f"{told.hostname} by proxy".encode(), {"content-type": "text/plain"})

    def do_CONNECT(self):
        self.server.asked.append((self.path, dict(self.headers)))
        with socket.create_connection(("127.0.0.1", int(self.path.rpartition(":")[2]))) as there:
            self.send_response(200)
            self.end_headers()
            ends = {self.connection: there, there: self.connection}
            while True:
                for end in select.select(list(ends), [], [])[0]:
                    if not (data := end.recv(65536)):
                        self.close_connection = True
                        return
                    ends[end].sendall(data)


class Refusing(Pages):
    """A proxy that lets nobody through."""

    def do_GET(self):
        self.server.asked.append((self.path, dict(self.headers)))
        self.send_response(407)
        self.send_header("content-length", "0")
        self.end_headers()

    do_CONNECT = do_GET


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """A client that goes away is what is tested here."""


@pytest.fixture
def serve():
    servers = []

    def start(handler, address="127.0.0.1", certificate=None):
        server = Quiet((address, 0), handler)
        server.asked, server.ended = [], threading.Event()
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate.configure_cert(context)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.ended.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def site(serve):
    return serve(Pages)


@pytest.fixture(autouse=True)
def no_proxy_of_the_machine(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def got(site, path, **options):
    return LOOP.run(fetch(f"http://127.0.0.1:{site.server_port}{path}", allow_private=True, **options))


# --- what leads inside

HOSTS = [
    *("127.0.0.1", "localhost", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.0.0.1."),
    *(
        "localhost.",
        "LOCALHOST",
        "①②⑦.⓪.⓪.①",
        "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
        "１２７．０．０．１",
        "127。0。0。1",
        "127.0.0.%31",
        "%6cocalhost",
    ),
    *("1\u00ad27.0.0.1", "127.0.0.1\u200b", "loc\u2060alhost", "0.0.0.0", "0", "[::1]", "[::]", "[::ffff:127.0.0.1]"),
    *("[::ffff:7f00:1]", "[::127.0.0.1]", "[::ffff:0:127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]"),
    *("[2002:7f00:1::]", "[2001:0:7f00:1::]", "[fe80::1%25lo]", "[fe80::1%lo]", "[::1%25lo]", "[v1.x]", "[]"),
    *("user@127.0.0.1", "@127.0.0.1", "a:b@127.0.0.1", "example.com@127.0.0.1", "127.0.0.1\\@example.com"),
    *("example.com\\@127.0.0.1", "127.0.0.1\\.example.com", "127.0.0.1\t", "127.0.0.1\x00", "..127.0.0.1"),
]


@pytest.mark.parametrize("host", HOSTS, ids=ascii)
def test_no_spelling_of_a_host_leads_inside(host, site):
    for url in (f"http://{host}:{site.server_port}/", f"HTTP://{host}:{site.server_port}/"):
        with pytest.raises((errors.InputError, errors.FetchFailed)):
            LOOP.run(fetch(url))
    assert site.asked == []


@pytest.mark.parametrize("host", ["127.0.0.1", "①②⑦.⓪.⓪.①", "2130706433", "0x7f000001", "127.1", "localhost."])
def test_nor_does_it_by_a_proxy(host, site, serve, monkeypatch):
    proxy = serve(Proxy)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.server_port}")
    with pytest.raises(errors.FetchFailed):
        LOOP.run(fetch(f"http://{host}:{site.server_port}/"))
    assert site.asked == [] and proxy.asked == []


def test_a_name_is_judged_by_what_is_connected_to(site, monkeypatch):
    """A name that leads outside when it is looked at, and inside when it is connected to."""
    resolve, times = socket.getaddrinfo, []

    def turning(host, port, *rest, **more):
        if host != "turns.invalid":
            return resolve(host, port, *rest, **more)
        times.append(host)
        return resolve("93.184.215.14" if len(times) > 1 else "127.0.0.1", port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", turning)
    with pytest.raises(errors.FetchFailed, match="private network"):
        LOOP.run(fetch(f"http://turns.invalid:{site.server_port}/"))
    assert site.asked == [] and times == ["turns.invalid"], "it was looked up once, and that answer was judged"


@given(st.ip_addresses(v=4))
def test_an_address_inside_another_is_no_way_in(address):
    wrapped = [f"::ffff:{address}", f"64:ff9b::{address}"]
    assert {is_public(one) for one in wrapped} == {is_public(str(address))}
    if is_public(str(address)):
        assert address.is_global and not address.is_multicast
    assert not is_public(f"::{address}") and not is_public(
        str(ipaddress.IPv6Address((0x2002 << 112) | int(address) << 80))
    )


@given(st.text())
def test_any_text_is_an_address_that_is_read_the_same_again_or_refused(text):
    for url in (text, f"http://{text}", f"https://{text}/x", f"http://example.org/{text}"):
        try:
            read = read_url(url)
        except errors.InputError:
            continue
        assert read_url(str(read)) == read and read.scheme in ("http", "https") and read.user is None
        assert urlsplit(str(read)).hostname == (read.raw_host or "").lower()


# --- what never ends, and what unfolds


def test_what_drips_ends_in_time(site):
    with pytest.raises(errors.FetchFailed, match=r"within 0\.5 s"):
        got(site, "/drip", timeout_s=0.5)


def test_a_packed_page_is_asked_for_as_it_is_and_bounded_all_the_same(site):
    assert got(site, "/gzip").content == b"honest text"
    assert site.asked[0][1]["accept-encoding"] == "identity"
    with pytest.raises(errors.FetchFailed, match="more than 1,000,000 bytes"):
        got(site, "/bomb", max_bytes=1_000_000)
    for path, told in (("/deflate", "packed as deflate"), ("/cut", "cannot be read")):
        with pytest.raises(errors.FetchFailed, match=told):
            got(site, path)


def test_a_packed_page_that_is_damaged_anywhere_is_refused(site):
    whole = gzip.compress(b"honest text of some length, " * 20, mtime=0)
    for place in range(len(whole)):
        site.damaged = whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
        try:
            assert got(site, "/damaged").content == b"honest text of some length, " * 20
        except errors.FetchFailed as failed:
            assert failed.hint


def test_a_bomb_is_not_unfolded_in_memory(site):
    import tracemalloc

    tracemalloc.start()
    try:
        with pytest.raises(errors.FetchFailed, match="more than"):
            got(site, "/bomb", max_bytes=1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_the_server_s_word_for_the_encoding_is_passed_on(site):
    page = got(site, "/page")
    assert (page.charset, page.media_type, page.content.decode(page.charset)) == ("latin-1", "text/plain", "olá")


# --- proxies


def test_a_name_that_only_the_proxy_knows_is_left_to_it(serve, monkeypatch):
    proxy = serve(Proxy)
    monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{proxy.server_port}")
    assert LOOP.run(fetch("http://docs.invalid/page")).content == b"docs.invalid by proxy"
    ((asked, headers),) = proxy.asked
    assert asked == "http://docs.invalid/page" and headers["Proxy-Authorization"].startswith("Basic ")
    monkeypatch.setenv("no_proxy", "docs.invalid")
    with pytest.raises(errors.FetchFailed, match="is not known"):
        LOOP.run(fetch("http://docs.invalid/page"))
    assert len(proxy.asked) == 1


@pytest.mark.parametrize("name", ["http_proxy", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["", "http://"])
def test_a_proxy_is_named_in_any_usual_way(name, scheme, serve, monkeypatch):
    proxy = serve(Proxy)
    monkeypatch.setenv(name, f"{scheme}127.0.0.1:{proxy.server_port}")
    assert LOOP.run(fetch("http://docs.invalid/page")).content == b"docs.invalid by proxy"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_refuses_is_said_without_its_password(scheme, serve, monkeypatch):
    proxy = serve(Refusing)
    monkeypatch.setenv(f"{scheme}_proxy", f"http://me:sec%23ret@127.0.0.1:{proxy.server_port}")
    with pytest.raises(errors.FetchFailed, match=r"proxy 127\.0\.0\.1 answered 407") as failed:
        LOOP.run(fetch(f"{scheme}://docs.invalid/page"))
    trace = "".join(traceback.format_exception(failed.value))
    assert failed.value.hint and "sec" not in trace and "me:" not in trace
    ((_, headers),) = proxy.asked
    sent = {name.lower(): value for name, value in headers.items()}["proxy-authorization"]
    assert base64.b64decode(sent.removeprefix("Basic ")) == b"me:sec#ret"


@pytest.mark.parametrize("proxy", ["http://me:sec/ret@proxy:80", "socks5://me:secret@proxy:1080", "http://me:secret@"])
def test_a_proxy_that_is_no_address_is_said_without_its_password(proxy, monkeypatch):
    monkeypatch.setenv("all_proxy", proxy)
    with pytest.raises(errors.CerebroError, match="proxy in the environment") as failed:
        LOOP.run(fetch("http://docs.invalid/page"))
    assert "sec" not in "".join(traceback.format_exception(failed.value))


def test_loopback_is_never_asked_of_a_proxy(site, serve, monkeypatch):
    proxy = serve(Proxy)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.server_port}")
    assert got(site, "/page").content and proxy.asked == []


def test_a_proxy_that_is_not_there_is_said_without_its_password(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://me:secret@127.0.0.1:9")
    with pytest.raises(errors.FetchFailed, match="cannot be read") as failed:
        LOOP.run(fetch("http://docs.invalid/page"))
    assert "secret" not in str(failed.value)


# --- real TLS, with an authority of our own that OpenSSL is told of as administrators do

CHILD = """
import json, sys
from cerebro_nb import CerebroError
from cerebro_nb.documents.fetching import fetch
from cerebro_nb.concurrency.loop import LOOP
for url in sys.argv[2:]:
    try:
        print(json.dumps(LOOP.run(fetch(url, allow_private=sys.argv[1] == "private")).content.decode("latin-1")))
    except CerebroError as error:
        print(json.dumps(f"{type(error).__name__}: {error}"))
"""


def fetched(private, *urls, **environment):
    words = [sys.executable, "-c", CHILD, "private" if private else "public", *urls]
    ended = subprocess.run(words, capture_output=True, text=True, check=True, env={**os.environ, **environment})
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_https_directly_and_through_a_proxy(serve, site, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    trusted = {"SSL_CERT_FILE": str(tmp_path / "ca.pem")}
    secure, proxy = serve(Pages, certificate=authority.issue_cert("localhost", "docs.invalid")), serve(Proxy)
    url = f"https://localhost:{secure.server_port}"
    page, down, other_name = fetched(
        True,
        f"{url}/page",
        f"{url}/to?http://127.0.0.1:{site.server_port}/page",
        f"https://127.0.0.1:{secure.server_port}/page",
        **trusted,
    )
    assert page == "olá" and "which is not encrypted" in down and "certificate" in other_name.lower()
    assert site.asked == []
    (unknown,) = fetched(True, f"{url}/page", SSL_CERT_FILE=os.devnull)
    assert unknown.startswith("FetchFailed") and "certificate" in unknown.lower()
    through = {"https_proxy": f"http://127.0.0.1:{proxy.server_port}", **trusted}
    (page,) = fetched(False, f"https://docs.invalid:{secure.server_port}/page", **through)
    assert page == "olá" and proxy.asked[0][0] == f"docs.invalid:{secure.server_port}"
    through["https_proxy"] = f"http://me:secret@127.0.0.1:{proxy.server_port}"
    fetched(False, f"https://docs.invalid:{secure.server_port}/page", **through)
    names = [{name.lower() for name in headers} for _, headers in (proxy.asked[-1], secure.asked[-1])]
    assert ["proxy-authorization" in told for told in names] == [True, False]
