"""Documents of every kind, and addresses that may lead inside."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import docx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from papers import REFERENCE, pdf_of

from cerebro_nb import Document, chunked, errors, read_documents
from cerebro_nb.context import likely_tokens
from cerebro_nb.documents import read_bytes
from cerebro_nb.fetching import fetch, is_public
from cerebro_nb.loop import LOOP


def test_a_pdf_is_read_with_its_pages(tmp_path):
    """Python's own reference, as every Python ships it, printed to a PDF of several pages."""
    (read,) = read_documents(pdf_of(REFERENCE, tmp_path / "reference.pdf", title="Python's reference"))
    assert read.title == "Python's reference" and len(read.page_starts) > 3
    assert "Exceptions are a means of breaking out of the normal flow of control" in " ".join(read.text.split())
    place = read.text.index("repeated execution")
    assert read.page_at(place) == len(read.page_starts) and read.page_at(0) == 1
    assert read.page_at(len(read.text) - 1) == len(read.page_starts)


def test_docx_markdown_html_and_a_folder(tmp_path):
    written = docx.Document()
    written.core_properties.title = "Tea"
    written.add_paragraph("Pour the water at eighty degrees.")
    table = written.add_table(1, 2)
    table.rows[0].cells[0].text, table.rows[0].cells[1].text = "green", "80"
    written.save(tmp_path / "a.docx")
    (tmp_path / "b.md").write_text("# Honey\n\nIt is *sweet*.")
    (tmp_path / "c.html").write_bytes("<meta charset=utf-8><title>Mel</title><p>Não é <b>sal</b>.".encode())
    (tmp_path / "d.html").write_bytes(b"<title>x</title><p>caf\xc3\xa9, no charset told")
    (tmp_path / ".hidden.md").write_text("no")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    tea, honey, mel, cafe = read_documents(tmp_path)
    assert (tea.title, honey.title, mel.title) == ("Tea", "Honey", "Mel")
    assert "eighty degrees" in tea.text and "green | 80" in tea.text
    assert "Não é sal." in mel.text and "café" in cafe.text


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.pdf", b"%PDF-1.7 and then nothing"), ("b.docx", b"PK\x03\x04 no"), ("c.pdf", b""), ("d.docx", b"plain text")],
)
def test_a_damaged_document_is_named_with_what_is_wrong(name, content):
    with pytest.raises(errors.DocumentUnreadable, match=name) as refused:
        read_bytes(content, name)
    assert refused.value.hint


def test_what_cannot_be_read_is_refused_before_anything_begins(tmp_path):
    (tmp_path / "empty.txt").write_text("\n")
    for source, told in (
        ("nowhere.txt", "nowhere.txt cannot be read"),
        (tmp_path / "empty.txt", "no text in what was given"),
        ("picture.png", "cannot be read"),
    ):
        with pytest.raises(errors.InputError, match=told):
            read_documents(source)


@given(st.text(max_size=600), st.sampled_from(["text/plain", "text/markdown"]))
def test_a_chunk_is_what_stands_at_its_place(text, media_type):
    document = Document(text, "any", media_type=media_type)
    readable = text.encode("utf-8", "replace").decode()
    for chunk in chunked([document], tokens=10, overlap=2):
        assert readable[chunk.start : chunk.end] == chunk.text
        assert likely_tokens(chunk.text) <= 10


# --- addresses


class Pages(BaseHTTPRequestHandler):
    """Serves a page, redirects, and more than anybody wants."""

    def do_GET(self):
        path = self.path
        if path == "/page":
            self.send("text/html; charset=utf-8", "<title>Chá</title><p>É verde.".encode())
        elif path.startswith("/to?"):
            self.send_response(302)
            self.send_header("location", path.partition("?")[2])
            self.end_headers()
        elif path == "/large":
            self.send("text/plain", b"x" * 100_000)
        elif path == "/slow":
            self.server.stopped.wait(30)
        elif path == "/picture":
            self.send("image/png", b"\x89PNG")
        else:
            self.send_error(404)

    def send(self, kind, body):
        self.send_response(200)
        self.send_header("content-type", kind)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def site():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    server.stopped = threading.Event()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.stopped.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_page_of_one_s_own_network_is_read_when_that_is_said(site):
    (page,) = read_documents(f"{site}/page", allow_private=True)
    assert (page.title, page.text, page.source) == ("Chá", "É verde.", f"{site}/page")


@pytest.mark.parametrize(
    "way", ["{site}/page", "http://localhost:{port}/page", "http://2130706433:{port}/page", "http://[::1]:{port}/page"]
)
def test_no_way_leads_inside_unless_that_is_said(way, site):
    with pytest.raises(errors.FetchFailed, match=r"private network|is not known|not a canonical"):
        read_documents(way.format(site=site, port=site.rpartition(":")[2]))


def test_no_redirect_leads_inside(site, monkeypatch):
    """The first hop is let through, as a public one would be; the second is looked at like the first."""
    from cerebro_nb import fetching

    looked = []

    def first_only(address):
        looked.append(address)
        return len(looked) == 1

    monkeypatch.setattr(fetching, "is_public", first_only)
    with pytest.raises(errors.FetchFailed, match="private network"):
        LOOP.run(fetch(f"{site}/to?{site}/page"))
    assert looked == ["127.0.0.1", "127.0.0.1"]


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/none", "answered 404"),
        ("/large", "more than 50,000 bytes"),
        ("/slow", "within 0.5 s"),
        ("/to?/to?/to?/to?/to?/to?/to?/to?/page", "redirects more than"),
    ],
)
def test_limits_are_kept(path, told, site):
    with pytest.raises(errors.FetchFailed, match=told):
        LOOP.run(fetch(site + path, allow_private=True, max_bytes=50_000, timeout_s=0.5 if "slow" in path else 20))


def test_a_redirect_to_a_file_and_a_picture_are_refused(site):
    with pytest.raises(errors.InputError, match="no address of a page"):
        LOOP.run(fetch(f"{site}/to?file:///etc/passwd", allow_private=True))
    with pytest.raises(errors.InputError, match="image/png"):
        read_documents(f"{site}/picture", allow_private=True)


@given(st.ip_addresses())
def test_a_wrapped_address_is_judged_by_what_is_in_it(address):
    if address.version == 4:
        assert is_public(f"::ffff:{address}") == is_public(str(address))
