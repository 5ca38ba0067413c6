"""Documents of every kind, and addresses that may lead inside."""

import asyncio
import io
import itertools
import json
import logging
import os
import re
import signal
import struct
import sys
import threading
import time
import zipfile
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import docx
import pptx
import pytest
from docx.oxml import parse_xml
from fpdf import FPDF
from hypothesis import example, given
from hypothesis import strategies as st
from papers import APACHE, REFERENCE, WORD, docx_of, pages_of, paragraph, pdf_of
from processes import has_ended

from cerebro_nb import Document, aread_documents, chunked, errors, read_documents
from cerebro_nb.client.context_window import likely_tokens
from cerebro_nb.concurrency.loop import LOOP
from cerebro_nb.documents.decoding import decoded, tidied
from cerebro_nb.documents.documents import read_bytes
from cerebro_nb.documents.fetching import fetch, is_public
from cerebro_nb.documents.pages import is_glued, text_of
from cerebro_nb.documents.parsers import parse_html
from cerebro_nb.documents.readers import Limits, Reader, begin


def test_a_pdf_is_read_with_its_pages(tmp_path):
    """Python's own reference, as every Python ships it, printed to a PDF of several pages."""
    (read,) = read_documents(pdf_of(REFERENCE, tmp_path / "reference.pdf", title="Python's reference"))
    assert read.title == "Python's reference" and len(read.page_starts) > 3
    assert "Exceptions are a means of breaking out of the normal flow of control" in " ".join(read.text.split())
    place = read.text.index(REFERENCE.split()[-1], len(read.text) - 100)
    assert read.page_at(place) == len(read.page_starts) and read.page_at(0) == 1
    assert read.page_at(len(read.text) - 1) == len(read.page_starts)


def test_a_rule_at_the_beginning_hides_no_heading():
    read = read_bytes(b"---\n\n# Tea\n\nIt wants warmth.\n\n---\n\n# Salt\n", "a.md")
    assert read.title == "Tea"
    assert read_bytes(b"---\ntitle: no\n# no\n---\n\n# Tea\n", "a.md").title == "Tea"


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
        (tmp_path / "empty.txt", "no text in .*empty.txt"),
        ("picture.png", "cannot be read"),
    ):
        with pytest.raises(errors.InputError, match=told):
            read_documents(source)


# --- texts

SENTENCE = "Instruções: não regue à noite. Ação, coração, pão. Dê água às plantas, e só então ao chão. "


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", SENTENCE),
        ("utf-8-sig", SENTENCE),
        ("utf-16", SENTENCE),
        ("utf-16-le", SENTENCE),
        ("utf-16-be", SENTENCE),
        ("utf-32", SENTENCE),
        ("cp1252", SENTENCE + "— “sempre”."),
        ("latin-1", SENTENCE),
        ("mac_roman", SENTENCE),
        ("cp850", SENTENCE),
        ("cp1250", "Zażółć gęślą jaźń. Wczoraj było bardzo zimno, więc piliśmy herbatę. " * 3),
        ("cp1251", "Поливайте базилик утром, два раза в неделю. " * 3),
        ("koi8_r", "Поливайте базилик утром, два раза в неделю. " * 3),
        ("shift_jis", "バジルは朝に水をやる。週に二回。" * 3),
        ("gb18030", "罗勒早上浇水，每周两次。" * 3),
        ("cp949", "바질은 아침에 물을 줍니다. 일주일에 두 번. " * 3),
    ],
)
def test_a_text_is_read_in_its_encoding_and_a_guess_is_said(encoding, text, tmp_path, caplog):
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    (read,) = read_documents(tmp_path / "a.txt")
    assert read.text == text.rstrip()
    told = encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32")
    assert [f"{tmp_path / 'a.txt'}: its encoding is guessed" in line for line in caplog.messages] == [True] * (not told)


def test_who_names_an_encoding_is_obeyed(tmp_path):
    (tmp_path / "a.txt").write_bytes("Pří".encode("cp1250"))
    assert read_documents(tmp_path / "a.txt", encoding="cp1250")[0].text == "Pří"
    assert read_bytes("Não".encode("cp850"), "a.txt", encoding="cp850").text == "Não"
    with pytest.raises(errors.InputError, match="not in utf-8"):
        read_documents(tmp_path / "a.txt", encoding="utf-8")
    for name in ("klingon", "idna", "rot13", "zlib_codec"):
        with pytest.raises(errors.InputError, match="no encoding of texts"):
            read_documents(tmp_path / "a.txt", encoding=name)


def test_a_fault_in_a_text_makes_no_other_encoding_of_it(caplog):
    assert read_bytes(SENTENCE.encode() * 3 + b"\xe3", "a.txt").text.startswith(SENTENCE)
    assert "UTF-8 with faults: 1" in caplog.text


@given(st.binary(max_size=300), st.sampled_from(["", "utf-8", "shift_jis", "unicode_escape", "nonsense"]))
@example(b"\xff\xfe\x00\xd8", "")
def test_any_bytes_are_some_text(content, declared):
    text, _ = decoded(content, "any", declared=declared)
    tidied(text).encode()


@given(st.text())
@example("a\r\n \x0c\x00\ud800 b\x85")
def test_tidying_takes_only_blanks_and_control_characters(text):
    kept = tidied(text)
    only = [mark for mark in text if not mark.isspace() and not (ord(mark) < 32 or 127 <= ord(mark) < 160)]
    assert [mark for mark in kept if not mark.isspace()] == ["\ufffd" if "\ud800" <= m <= "\udfff" else m for m in only]
    assert "\n\n\n" not in kept and " \n" not in kept and tidied(kept) == kept


@pytest.mark.parametrize(
    "text", [" " * 3_000_000 + "x", "\n" * 3_000_000 + "x", " \n" * 1_000_000 + "x", "\r" * 3_000_000]
)
def test_tidying_takes_time_in_proportion_to_the_text(text):
    began = time.process_time()
    tidied(text)
    assert time.process_time() - began < 20


# --- chunks


@given(st.text(max_size=3000), st.sampled_from(["text/plain", "text/markdown"]))
@example("word " * 1000, "text/plain")
@example("x" * 3000, "text/markdown")
@example("a\n\n" + " " * 2000 + "b", "text/plain")
def test_a_chunk_is_what_stands_at_its_place(text, media_type):
    document = Document(text, "any", media_type=media_type)
    readable = "".join("\ufffd" if "\ud800" <= mark <= "\udfff" else mark for mark in text)
    covered = 0
    for chunk in chunked([document], tokens=10, overlap=2):
        assert readable[chunk.start : chunk.end] == chunk.text
        assert likely_tokens(chunk.text) <= 10
        assert not readable[covered : chunk.start].strip()
        covered = chunk.end
    assert not readable[covered:].strip()


@pytest.mark.parametrize(
    "text",
    [
        "the basil plant wants water in the morning " * 70_000,
        "QUJDREVGR0hJSktMTU5PUFFS" * 42_000,
        "ten words a line\n" * 90_000,
    ],
    ids=["a line", "no blanks", "no blank line"],
)
def test_cutting_takes_time_in_proportion_to_the_text(text):
    began = time.process_time()
    assert sum(1 for _ in chunked([Document(text, "any")])) > 1000
    assert time.process_time() - began < 60  # the square took hours


def test_windows_do_not_show_in_the_chunks():
    whole = list(chunked([Document(APACHE, "licence")], tokens=len(APACHE) // 100))
    assert all(one.start <= after.start < one.end + 40 for one, after in itertools.pairwise(whole))
    few_words = list(
        chunked([Document("word " * 5000, "any")], tokens=1000, overlap=0, count=lambda text: len(text.split()))
    )
    assert [len(chunk.text.split()) for chunk in few_words] == [1000] * 5


# --- PDF


def test_what_only_paper_needs_is_left_out_and_pages_stay_right(tmp_path):
    body = [line for line in REFERENCE.split("\n") if len(line.split()) > 5][:120]
    pages = ["The Reference\nof a language\nOctober 2026"]
    pages += [
        "Contents\n1 Exceptions . . . . . . . . . 3\n2 Imports . . . . . . . . . . 4\n3 Loops . . . . . . . . . . . 5"
    ]
    for number in range(3, 9):
        text = "\n".join(body[15 * (number - 3) : 15 * (number - 2)])
        pages.append(f"{number}\nCHAPTER {number // 3}. A LANGUAGE\n{text}\nPage {number} of 8")
    read = read_bytes(pages_of(pages), "reference.pdf")
    assert read.title == "The Reference"
    assert not any(word in read.text for word in ("CHAPTER", "Page", "Contents", ". . .", "October"))
    for number in range(3, 9):
        first, last = " ".join(body[15 * (number - 3)].split()), " ".join(body[15 * (number - 2) - 1].split())
        text = " ".join(read.text[read.page_starts[number - 1] :].split())
        assert text.startswith(first) and last in text
        assert read.page_at(read.page_starts[number - 1]) == number
    assert len(read.page_starts) == 8


def test_a_table_and_a_short_document_lose_nothing():
    table = "\n".join(f"Row {letter} holds {number}" for number, letter in enumerate("abcdefghijklmnop", 1))
    assert read_bytes(pages_of([table, "One line."]), "table.pdf").text == f"{table}\n\nOne line."
    assert read_bytes(pages_of(["The same page."] * 4), "same.pdf").text.count("The same page.") == 4


def test_a_hyphen_at_a_line_end_is_joined_where_it_is_one_word():
    text = read_bytes(
        pages_of(["Basil is a well-known herb, and its culti-\nvation is easy. It is well-\nknown in Italy."]), "a.pdf"
    ).text
    assert "cultivation" in text and text.count("well-known") == 2


def test_accents_that_stand_before_their_letters_are_put_on_them():
    assert text_of(["O livro foi lan¸cado, n˜ao est´a vendido; ele ´e ´util, vocˆe vˆe."]).text == (
        "O livro foi lançado, não está vendido; ele é útil, você vê."
    )
    assert text_of(["It´s l´amour."]).text == "It´s l´amour."


def test_pages_without_text_and_glued_words_are_said(tmp_path, caplog):
    glued = (
        "Thestabledistributionisaclassofprobabilitydistributions\nthatallowskewnessandheavytailsandhavemanyproperties"
    )
    read = read_bytes(pages_of(["Basil wants water in the morning."] + [""] * 2 + [glued, ""]), "part.pdf")
    assert "part.pdf: no text on pages 2-3, 5 of 5:" in caplog.text
    assert "part.pdf: the words of page 4 seem to be glued" in caplog.text
    assert read.page_at(read.text.index("Thestable")) == 4 and read.page_at(0) == 1
    with pytest.raises(errors.InputError, match=r"no text in scan\.pdf") as refused:
        read_bytes(pages_of(["", ""]), "scan.pdf")
    assert "OCR" in refused.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "Die Rechtsschutzversicherung zahlt nur dann, wenn der Vertrag es sagt, und niemand liest ihn vorher. " * 3,
        "A responsabilidade constitucional dos administradores não é transferível a terceiros sem acordo. " * 3,
        "罗勒早上浇水每周两次夏天每天都要浇水冬天则不用浇水" * 9,
        "ต้นโหระพาต้องการน้ำในตอนเช้าและแสงแดดในตอนเที่ยงของทุกวัน" * 9,
    ],
)
def test_long_words_and_scripts_without_blanks_are_not_glued(text):
    assert not is_glued(text)


@given(st.lists(st.text("ab1 .-\n", max_size=80), max_size=8))
def test_pages_begin_where_they_are_said_to(pages):
    printed = text_of(pages)
    assert len(printed.starts) == len(pages) and list(printed.starts) == sorted(printed.starts)
    assert all(start <= len(printed.text) for start in printed.starts)


# --- DOCX


def test_a_docx_is_read_whole_and_in_order(tmp_path):
    written = docx.Document()
    written.add_heading("Basil", 1)
    written.add_paragraph("Start.\tIt is green.")
    table = written.add_table(3, 3)
    table.cell(0, 0).merge(table.cell(0, 2)).text = "Prices of the year"
    for place, text in enumerate(("Basil", "2.50", "June")):
        table.cell(1, place).text = text
    table.cell(1, 0).merge(table.cell(2, 0))
    table.cell(2, 1).text, table.cell(2, 2).text = "2.80", "July"
    table.cell(2, 2).add_table(1, 1).cell(0, 0).text = "NESTED"
    for text in ("CONTROL", "END"):
        block = f'<w:sdt xmlns:w="{WORD}"><w:sdtContent>{paragraph(text)}</w:sdtContent></w:sdt>'
        written.element.body.insert(len(written.element.body) - 1, parse_xml(block))
    written.sections[0].header.paragraphs[0].text = "HEAD"
    written.save(tmp_path / "a.docx")
    (read,) = read_documents(tmp_path / "a.docx")
    assert read.text.startswith(
        "Basil\n\nStart.\tIt is green.\n\nPrices of the year\nBasil | 2.50 | June\n\n2.80\n\nJuly"
    )
    assert read.text.endswith("NESTED\n\nCONTROL\n\nEND") and read.text.count("Prices") == 1 and "HEAD" not in read.text


def test_controls_boxes_notes_and_changes_of_a_docx():
    body = (
        f"<w:p><w:r><w:t>one</w:t><w:br/><w:t>two</w:t></w:r><w:sdt><w:sdtContent><w:r><w:t> in a run</w:t></w:r>"
        f"</w:sdtContent></w:sdt><w:del><w:r><w:delText>GONE</w:delText></w:r></w:del>"
        f"<w:r><w:pict><w:txbxContent>{paragraph('in a box')}</w:txbxContent></w:pict></w:r></w:p>"
        f"<w:tbl><w:tr><w:sdt><w:sdtContent><w:tc>{paragraph('in a cell')}</w:tc></w:sdtContent></w:sdt></w:tr></w:tbl>"
        f'<w:sdt><w:sdtPr><w:docPartObj><w:docPartGallery w:val="Table of Contents"/></w:docPartObj></w:sdtPr>'
        f"<w:sdtContent>{paragraph('CONTENTS')}</w:sdtContent></w:sdt>"
    )
    notes = (
        f'<w:footnote w:type="separator">{paragraph("LINE")}</w:footnote><w:footnote>{paragraph("a note")}</w:footnote>'
    )
    read = read_bytes(docx_of(body, footnotes=notes, endnotes=f"<w:endnote>{paragraph('last')}</w:endnote>"), "a.docx")
    assert read.text == "one\ntwo in a run\n\nin a box\n\nin a cell\n\na note\n\nlast"


def test_what_is_hidden_in_a_docx_is_left_out():
    def run(text, properties=""):
        return f"<w:r><w:rPr>{properties}</w:rPr><w:t>{text}</w:t></w:r>"

    based = '<w:style w:styleId="{}"><w:basedOn w:val="{}"/></w:style>'
    styles = f'<w:style w:styleId="veil"><w:rPr><w:vanish/></w:rPr></w:style>{based.format("thin", "veil")}'
    styles += based.format("round", "circle") + based.format("circle", "round")
    seen = run("seen", '<w:vanish w:val="0"/>') + run(" too", '<w:rStyle w:val="round"/><w:vanish w:val="off"/>')
    hidden = run("A", "<w:vanish/>") + run("B", '<w:vanish w:val="true"/>') + run("C", '<w:rStyle w:val="thin"/>')
    body = (
        f"<w:p><w:pPr><w:rPr><w:vanish/></w:rPr></w:pPr>{hidden}{seen}</w:p>"
        f'<w:p><w:pPr><w:pStyle w:val="veil"/></w:pPr>{run("D")}{seen.replace("seen", "shown")}</w:p>'
    )
    notes = f"<w:footnote><w:p>{hidden}{run('a note')}</w:p></w:footnote>"
    assert read_bytes(docx_of(body, styles=styles, footnotes=notes), "a.docx").text == "seen too\n\nshown too\n\na note"


def bomb(size: int) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("word/document.xml", "w") as part:
        part.write(f'<w:document xmlns:w="{WORD}"><w:body>'.encode())
        for _ in range(size // 1_000_000):
            part.write((paragraph("") * 50_000)[:1_000_000].encode())
    return packed.getvalue()


def test_a_small_docx_that_holds_a_huge_one_is_refused():
    packed = bomb(400_000_000)
    assert len(packed) < 2_000_000
    with pytest.raises(errors.DocumentUnreadable, match=r"bomb.docx holds 4\d\d,\d{3},\d{3} bytes") as refused:
        read_bytes(packed, "bomb.docx")
    assert refused.value.hint


def test_a_docx_that_lies_about_its_size_is_refused():
    packed = bomb(150_000_000)
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        size = archive.infolist()[0].file_size
    lying = packed.replace(struct.pack("<L", size), struct.pack("<L", 1000))
    with pytest.raises(errors.DocumentUnreadable, match=r"bomb\.docx"):
        read_bytes(lying, "bomb.docx")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "such as .doc"),
        (docx_of("<w:p>" * 5000 + "</w:p>" * 5000), "cannot be read as docx"),
        (docx_of("").replace(b"word/document.xml", b"word/nocument.xml"), "no text of a DOCX"),
    ],
)
def test_what_is_no_docx_is_told(content, told):
    with pytest.raises(errors.DocumentUnreadable, match=told):
        read_bytes(content, "a.docx")


def epub_of(pages: dict[str, str], spine: str, **parts: str) -> bytes:
    """Pack pages to a book, in the order of a spine; a page called nav is its contents."""
    items = "".join(
        f'<item id="{name}" href="{name}.xhtml" media-type="application/xhtml+xml" properties="{name}"/>'
        for name in pages
    )
    order = "".join(f'<itemref idref="{name}"/>' for name in spine.split())
    title = '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>On tea</dc:title></metadata>'
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        container = '<container><rootfiles><rootfile full-path="OPS/book.opf"/></rootfiles></container>'
        archive.writestr("META-INF/container.xml", container)
        archive.writestr(
            "OPS/book.opf", f"<package>{title}<manifest>{items}</manifest><spine>{order}</spine></package>"
        )
        for name, page in pages.items():
            archive.writestr(
                f"OPS/{name}.xhtml", f'<?xml version="1.0"?><html><head><title/></head><body>{page}</body></html>'
            )
        for name, xml in parts.items():
            archive.writestr(f"META-INF/{name}.xml", xml)
    return packed.getvalue()


def test_an_epub_is_read_in_the_order_of_its_spine_without_its_contents(caplog):
    pages = {"one": "<h1>Water</h1><p>Hot.</p>", "two": "<h1>Cups</h1><p>Small.</p>", "nav": "<p>Contents</p>"}
    read = read_bytes(epub_of(pages, "nav two one gone"), "tea.epub")
    assert (read.title, read.text) == ("On tea", "Cups\n\nSmall.\n\nWater\n\nHot.")
    assert read.outline == ((1, "Cups", None), (1, "Water", None)) and read.media_type == "application/epub+zip"
    assert "tea.epub: parts of it that are missing, or no text: 1" in caplog.text


def test_a_locked_epub_and_a_bomb_are_refused_and_locked_fonts_are_not():
    page = {"one": "<p>Tea is green.</p>"}
    way = '<encryption><EncryptedData><EncryptionMethod Algorithm="{}"/></EncryptedData></encryption>'
    fonts = epub_of(page, "one", encryption=way.format("http://www.idpf.org/2008/embedding"))
    assert read_bytes(fonts, "tea.epub").text == "Tea is green."
    with pytest.raises(errors.DocumentUnreadable, match="digital rights"):
        read_bytes(epub_of(page, "one", encryption=way.format("http://www.w3.org/2001/04/xmlenc#aes128-cbc")), "b.epub")
    with pytest.raises(errors.DocumentUnreadable, match=r"holds 60,\d{3},\d{3} bytes of OPS/two"):
        read_bytes(epub_of(dict.fromkeys(("one", "two"), " " * 60_000_000), "one two"), "bomb.epub")


def test_a_pptx_is_read_slide_by_slide_with_its_notes(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    made = pptx.Presentation()
    for title, line in (("Water", "Not boiling."), ("Secret", "Hidden."), ("Cups", "Small ones.")):
        slide = made.slides.add_slide(made.slide_layouts[1])
        slide.shapes.title.text, slide.placeholders[1].text = title, line
        slide.notes_slide.notes_text_frame.text = f"Speak of {title}."
    table = slide.shapes.add_table(1, 2, 0, 0, 100, 100).table
    table.cell(0, 0).text, table.cell(0, 1).text = "green", "80"
    made.slides[1]._element.set("show", "0")
    made.save(tmp_path / "tea.pptx")
    (read,) = read_documents(tmp_path / "tea.pptx")
    cups = "Cups\n\nSmall ones.\n\ngreen | 80\n\nSpeak of Cups."
    assert read.text == f"Water\n\nNot boiling.\n\nSpeak of Water.\n\n{cups}"
    assert read.page_at(read.text.index("Small ones")) == 3 and "hidden slides: page 2" in caplog.text
    assert read.outline == ((1, "Water", 1), (1, "Cups", 3))


@pytest.mark.parametrize("name", ["prices.xlsx", "prices.csv", "prices.parquet"])
def test_a_file_of_rows_is_no_document_and_it_is_said_where_it_belongs(name):
    with pytest.raises(errors.InputError) as refused:
        read_bytes(b"a,b", name)
    assert "read_rows" in refused.value.hint


def test_an_empty_page_is_no_scan(caplog):
    printed = FPDF()
    for text in ("Tea is green.", ""):
        printed.add_page()
        printed.set_font("Helvetica", size=11)
        printed.text(15, 15, text) if text else None
    read_bytes(bytes(printed.output()), "tea.pdf")
    assert "no text" not in caplog.text


def test_a_part_of_a_page_that_is_named_after_its_heading_is_kept():
    long = "Such bugs are to be told to the security team before they are told to anybody else in the world. "
    part = f'<section id="handling-security-related-bugs"><h2>Handling security-related bugs</h2>{long * 3}</section>'
    page = f"<main><h1>Bugs</h1><p>{'Every program has bugs, and all are to be mended. ' * 5}</p>{part}</main>"
    assert "security team" in read_bytes(page.encode(), "bugs.html").text


def test_no_entity_of_a_docx_is_resolved(tmp_path):
    (tmp_path / "secret").write_text("SECRET")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(
            "word/document.xml",
            f'<!DOCTYPE x [<!ENTITY e SYSTEM "{(tmp_path / "secret").as_uri()}">]>'
            f'<w:document xmlns:w="{WORD}"><w:body><w:p><w:r><w:t>&e;</w:t></w:r></w:p></w:body></w:document>',
        )
    with pytest.raises(errors.DocumentUnreadable, match="DTD"):
        read_bytes(packed.getvalue(), "a.docx")


# --- HTML

PAGE = """<title>Manjericão</title><body><div id="cookie-consent">We use cookies. <button>Accept</button></div>
<nav class="menu"><ul><li><a href="/">Home</a><li><a href="/shop">Shop</a></ul></nav><main><article><h1>Water</h1>
<p>Basil wants water in the morning, never at night, and a place where the sun shines for some hours.</p>
<h2>How often</h2>
<ul><li>twice a week in winter</li><li>every day in summer</li></ul><ol><li>Fill the can.</li></ol></article></main>
<footer>Copyright. <a href="/p">Privacy</a></footer>"""


def test_the_content_of_a_page_is_told_from_what_is_around_it():
    read = read_bytes(PAGE.encode(), "a.html")
    assert read.title == "Manjericão"
    for kept in (
        "Water",
        "Basil wants",
        "How often",
        "- twice a week in winter",
        "- every day in summer",
        "Fill the can.",
    ):
        assert kept in read.text
    assert not any(gone in read.text for gone in ("cookies", "Home", "Shop", "Privacy"))


inside_lists = st.recursive(
    st.just("%"),
    lambda inner: st.builds(
        lambda tag, parts: f"<{tag}>{''.join(parts)}</{tag}>",
        st.sampled_from(["ul", "ol", "li", "p", "div", "b"]),
        st.lists(inner, min_size=1, max_size=4),
    ),
    max_leaves=12,
)


@given(st.lists(inside_lists, min_size=1, max_size=6))
@example(["<li>%</li>", "<ul><li>%</li></ul>", "<p>%</p>", "<!-- -->", "%", "<li>%</li>"])
def test_whatever_stands_in_a_list_is_kept(parts):
    pieces = "".join(parts).split("%")
    words = [f"tea{number}x" for number in range(len(pieces) - 1)]
    listed = "".join(
        piece + word for piece, word in itertools.zip_longest(pieces, [f" {word} " for word in words], fillvalue="")
    )
    text = parse_html(f"<main><p>{'Water and time. ' * 20}</p><ul>{listed}</ul></main>".encode(), "a.html").text
    assert re.findall("tea[0-9]+x", text) == words


@pytest.mark.parametrize("listed", ["<ul><li>one<li>two</ul>" * 5_000, f"<ul>{'<li>one<li>two' * 5_000}</ul>"])
def test_many_lists_are_read_in_a_time_like_their_number(listed):
    begun = time.process_time()
    text = parse_html(f"<main>{listed}</main>".encode(), "a.html").text
    assert text.count("- one") == text.count("- two") == 5_000
    assert time.process_time() - begun < 30


@pytest.mark.parametrize("tags", ["<ul><li>", "<div>", "<ul>", "<ul><li><p>leaf</p>"])
def test_a_page_of_tags_within_each_other_is_taken_whole_and_that_is_said(tags):
    begun = time.process_time()
    read = parse_html(f"<p>green</p>{tags * 5_000}deep".encode(), "a.html")
    assert "green" in read.text and "deep" in read.text and "too deep within each other" in read.doubts[0]
    assert read.text.count("leaf") == 5_000 * ("leaf" in tags)
    assert time.process_time() - begun < 30


def test_a_page_of_links_alone_is_taken_whole_and_that_is_said(caplog):
    links = "".join(f'<li><a href="/{number}">Chapter {number}</a></li>' for number in range(9))
    read = read_bytes(f"<body><nav><ul>{links}</ul></nav>".encode(), "links.html")
    assert "Chapter 8" in read.text and "links.html: its main content is not told" in caplog.text


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf<meta charset=cp1252><p>" + "É verde.".encode(),
        b"<meta charset='iso-8859-1'><p>" + "É verde.".encode("cp1252"),
        b'<meta http-equiv="content-type" content="text/html; charset=utf-16"><p>' + "É verde.".encode(),
        "<p>É verde.".encode("utf-16"),
        "<p>É verde.".encode("cp1252"),
    ],
)
def test_the_encoding_of_a_page_is_looked_for_as_browsers_do(content):
    assert read_bytes(content, "a.html").text == "É verde."


# --- the child


def spent(pid: int) -> float:
    """Return the processor time of a process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def our_children() -> list[int]:
    """Return the parsing children of this process."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"cerebro_nb.documents.parsing_child" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except (OSError, ValueError):
            continue
    return found


def busy_child(least: float = 0.8) -> int:
    """Wait until a parsing child is at work, and return its process."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for pid in our_children():
            with suppress(OSError):
                if spent(pid) > least:
                    return pid
        time.sleep(0.02)  # what a process has spent cannot be awaited
    raise AssertionError("no child is at work")


linux = pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")
ENDLESS = b"<ul><li><p>x</p>" * 20_000  # the parser takes the square of their number


@pytest.mark.skipif(sys.platform == "win32", reason="the system limits no processor time")
def test_a_file_that_takes_too_long_is_ended_and_the_next_is_read():
    with Reader(Limits(cpu_s=1)) as reader:
        with pytest.raises(errors.DocumentUnreadable, match=r"boxes\.html takes longer") as refused:
            reader.parse("html", ENDLESS, "boxes.html")
        assert refused.value.hint
        assert reader.parse("html", b"<p>Tea", "tea.html").text == "Tea"


@linux
def test_a_child_that_hangs_is_ended_by_the_clock():
    with Reader(Limits(wall_s=1)) as reader:
        assert reader.parse("html", b"<p>Tea", "tea.html").text == "Tea"
        os.kill(reader.pid, signal.SIGSTOP)
        with pytest.raises(errors.DocumentUnreadable, match=r"tea\.html takes longer"):
            reader.parse("html", b"<p>Tea" * 100_000, "tea.html")


@linux
def test_a_child_that_crashes_is_the_file_s_failure():
    with Reader() as reader:
        parsing = begin(lambda: reader.parse("html", ENDLESS, "boxes.html"))
        os.kill(busy_child(), signal.SIGSEGV)
        with pytest.raises(errors.DocumentUnreadable, match=r"broke down over boxes.html \(SIGSEGV\)"):
            parsing.result(60)
        assert reader.parse("html", b"<p>Tea", "tea.html").text == "Tea"
        os.kill(reader.pid, signal.SIGKILL)
        os.waitid(os.P_PID, reader.pid, os.WEXITED | os.WNOWAIT)
        assert reader.parse("html", b"<p>Tea", "tea.html").text == "Tea"


def acting(folder: Path, code: str) -> str:
    """Return a program that is started as Python and does something else."""
    act, program = folder / "act.py", folder / "python"
    act.write_text(code)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{act}"\n')
    program.chmod(0o700)
    return str(program)


DEEP = b"[" * 100_000 + b"]" * 100_000
ANSWER = {"title": "Tea", "page_starts": [], "doubts": [], "left_out": [], "outline": []}


@linux
@pytest.mark.parametrize(
    "head",
    [
        DEEP,
        b'{"failed": ' + DEEP + b"}",
        b"{",
        b"7",
        b"null",
        b'"failed"',
        b'{"failed": "size", "characters": Infinity}',
        json.dumps({**ANSWER, "page_starts": [float("inf")]}).encode(),
        json.dumps({**ANSWER, "page_starts": 7}).encode(),
        json.dumps({**ANSWER, "title": 0, "doubts": None}).encode(),
    ],
    ids=lambda head: ascii(head[:40]),
)
def test_whatever_a_child_answers_the_file_is_at_fault(head, tmp_path, monkeypatch):
    frame = struct.pack(">II", len(head), 0) + head
    code = f"import sys\nsys.stdout.buffer.write({frame!r})\nsys.stdout.flush()\nsys.stdin.buffer.read()"
    monkeypatch.setattr(sys, "executable", acting(tmp_path, code))
    with Reader() as reader, pytest.raises(errors.DocumentUnreadable, match=r"tea\.html"):
        reader.parse("html", b"<p>Tea", "tea.html")


@linux
@pytest.mark.parametrize("program", ["nowhere", "dies"])
def test_a_child_that_does_not_start_is_said_of_the_file(program, tmp_path, monkeypatch):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.txt").write_text("Basil wants water.")
    (folder / "b.html").write_text("<p>Tea")
    ours = str(tmp_path / program) if program == "nowhere" else acting(tmp_path, "raise SystemExit(3)")
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", ours)
        read = read_documents(folder)
        assert [document.text for document in read] == ["Basil wants water."]
        assert isinstance(read.skipped[str(folder / "b.html")], errors.DocumentUnreadable)
        with pytest.raises(errors.DocumentUnreadable, match=r"b\.html") as refused:
            read_documents(folder / "b.html")
        assert refused.value.hint
    assert read_documents(folder / "b.html")[0].text == "Tea"


@linux
def test_no_room_for_a_child_is_said_of_the_file_and_the_next_is_read():
    import resource

    with Reader() as reader:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")), hard))
        try:
            with pytest.raises(errors.DocumentUnreadable, match=r"tea\.html .* did not start"):
                reader.parse("html", b"<p>Tea", "tea.html")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert reader.parse("html", b"<p>Tea", "tea.html").text == "Tea"


@linux
def test_a_file_that_wants_too_much_memory_is_refused():
    with Reader(Limits(memory_bytes=500_000_000)) as reader:
        with pytest.raises(errors.DocumentUnreadable, match=r"large\.html") as refused:
            reader.parse("html", b"<p>a<b>c</b>" * 3_000_000, "large.html")
        assert "memory" in str(refused.value)
        assert reader.parse("html", b"<p>Tea", "tea.html").text == "Tea"


def test_a_text_that_is_too_long_and_a_file_that_is_too_large_are_refused():
    with Reader(Limits(characters=100)) as reader, pytest.raises(errors.DocumentUnreadable, match="more than 100"):
        reader.parse("html", b"<p>" + b"word " * 100, "long.html")
    for size in (Limits().characters + 1, Limits().file_bytes + 1):
        with pytest.raises(errors.CerebroError, match=r"long\.txt has .*more than") as refused:
            read_bytes(b"x" * size, "long.txt")
        assert refused.value.hint


@linux
def test_the_loop_serves_others_meanwhile_and_a_cancel_ends_the_child(tmp_path):
    (tmp_path / "boxes.html").write_bytes(ENDLESS)
    reading = LOOP.submit(aread_documents(tmp_path / "boxes.html"))
    child = busy_child()
    assert LOOP.run(asyncio.sleep(0, "served")) == "served" and not reading.done()
    reading.cancel()
    assert has_ended(child) and not our_children()


@linux
@pytest.mark.parametrize("read", [read_documents, lambda path: read_bytes(path.read_bytes(), "boxes.html")])
def test_ctrl_c_ends_the_child(read, tmp_path):
    (tmp_path / "boxes.html").write_bytes(ENDLESS)

    def interrupt() -> None:
        busy_child()
        os.kill(os.getpid(), signal.SIGINT)

    interrupting = begin(interrupt)
    with pytest.raises(KeyboardInterrupt):
        read(tmp_path / "boxes.html")
    interrupting.result(60)
    assert not our_children()


@linux
def test_a_child_dies_with_its_parent(tmp_path):
    import subprocess

    (tmp_path / "boxes.html").write_bytes(b"<div>" * 20_000)
    script = (
        "import sys; from cerebro_nb.documents.readers import Reader\n"
        "reader = Reader(); reader.parse('html', b'<p>Tea', 'a.html'); print(reader.pid, flush=True)\n"
        f"reader.parse('html', open({str(tmp_path / 'boxes.html')!r}, 'rb').read(), 'boxes.html')"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert has_ended(child)


# --- folders


def test_a_bad_file_in_a_folder_is_left_out_and_listed_and_one_that_was_named_raises(tmp_path, caplog):
    folder = tmp_path / "folder"
    folder.mkdir()
    bad = {
        "locked.pdf": pages_of(["secret"], password="pw"),
        "broken.pdf": b"%PDF-1.4 no",
        "broken.docx": b"PK no",
        "empty.txt": b"",
        "scan.pdf": pages_of([""]),
    }
    for name, content in bad.items():
        (folder / name).write_bytes(content)
    (folder / "a.txt").write_text("Basil wants water.")
    (folder / "z.md").write_text("# Mint\n\nIt grows in shade.")
    read = read_documents(folder)
    assert [Path(document.source).name for document in read] == ["a.txt", "z.md"]
    assert {Path(path).name for path in read.skipped} == set(bad)
    for name in bad:
        assert any(line.startswith("left out: ") and name in line for line in caplog.messages)
        with pytest.raises((errors.InputError, errors.DocumentUnreadable), match=name):
            read_documents([folder / "a.txt", folder / name])
    for name in ("a.txt", "z.md"):
        (folder / name).unlink()
    with pytest.raises(errors.InputError, match="holds no document"):
        read_documents(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes")
def test_links_stay_inside_a_folder_and_odd_files_are_left_out(tmp_path):
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("SECRET")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "more.txt").write_text("SECRET")
    (folder / "sub" / "real.txt").write_text("Basil.")
    (folder / "again.txt").symlink_to(folder / "sub" / "real.txt")
    (folder / "out.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "outer").symlink_to(tmp_path / "outside")
    (folder / "loop").symlink_to(folder)
    (folder / "gone.txt").symlink_to(folder / "nothing")
    os.mkfifo(folder / "pipe.txt")
    read = read_documents(folder)
    assert [document.source for document in read] == [str(folder / "sub" / "real.txt")]
    assert {Path(path).name for path in read.skipped} == {"out.txt", "outer", "gone.txt", "pipe.txt"}
    with pytest.raises(errors.InputError, match="it is no file"):
        read_documents(folder / "pipe.txt")
    assert read_documents(folder / "out.txt")[0].text == "SECRET"  # it was named


@linux
def test_a_slow_file_says_that_it_is_read(tmp_path):
    path, said = tmp_path / "boxes.html", threading.Event()
    path.write_bytes(ENDLESS)

    class Listener(logging.Handler):
        def emit(self, record):
            if record.getMessage() == f"reading {path}":
                said.set()

    log = logging.getLogger("cerebro_nb")
    log.addHandler(Listener())
    log.setLevel(logging.INFO)
    reading = LOOP.submit(aread_documents(path))
    child = busy_child(least=0.0)
    assert said.wait(60)
    reading.cancel()
    assert has_ended(child)


def test_hostile_text_is_cleaned_at_the_door():
    assert read_bytes(b"Tea\x00\x1b[31m is\x07 green", "a.txt").text == "Tea[31m is green"
    assert read_bytes(b"a zero in a log\0" * 9, "a.txt").text == "a zero in a log" * 9
    assert read_bytes(b"<title>T\x1bea</title><p>gr&#xD800;een&#7;", "a.html").text.isprintable()
    assert read_bytes(docx_of(paragraph("שלום \u202eabc\u202c")), "a.docx").text == "שלום \u202eabc\u202c"


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
            self.server.stopped.wait()
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
    from cerebro_nb.documents import fetching

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
