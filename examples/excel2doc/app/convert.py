"""The conversion itself: bytes of a spreadsheet in, bytes of a document out. Touches nothing else."""

from __future__ import annotations

import csv
import html
import io
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal

import docx
import openpyxl

Format = Literal["docx", "html"]
MEDIA_TYPES: dict[Format, str] = {
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "html": "text/html; charset=utf-8",
}
_MAX_UNPACKED = 200 * 1024 * 1024


class ConversionError(Exception):
    """The upload can't be converted; the message is a sentence for the person who sent it."""


@dataclass(frozen=True)
class Table:
    """A sheet as text. Every row has as many cells as ``header``."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def read_table(data: bytes, filename: str, *, max_rows: int, max_columns: int) -> Table:
    """The first sheet of an ``.xlsx``, or a ``.csv``; its first row is the header."""
    name = PurePath(filename)
    kind = name.suffix.lower()
    if kind == ".xlsx":
        rows = _xlsx_rows(data, max_rows, max_columns)
    elif kind == ".csv":
        rows = _csv_rows(data, max_rows, max_columns)
    else:
        raise ConversionError(f"{filename!r} is neither an .xlsx nor a .csv file.")
    if not rows:
        raise ConversionError("The first sheet is empty.")
    width = max(len(row) for row in rows)
    padded = [tuple(row) + ("",) * (width - len(row)) for row in rows]
    return Table(title=name.stem, header=padded[0], rows=tuple(padded[1:]))


def write_document(table: Table, form: Format) -> bytes:
    """The document's bytes; for the same table, the same HTML."""
    return _docx(table) if form == "docx" else _html(table)


def _xlsx_rows(data: bytes, max_rows: int, max_columns: int) -> list[list[str]]:
    try:
        # An .xlsx is a zip: a few KB can unpack to gigabytes.
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _MAX_UNPACKED:
                raise ConversionError("The file unpacks to more than 200 MB.")
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        sheet = book.worksheets[0]
        return _bounded(sheet.iter_rows(values_only=True), max_rows, max_columns)
    except ConversionError:
        raise
    except Exception as error:  # openpyxl raises whatever its XML parser or zip reader meets
        raise ConversionError(f"The file can't be read as .xlsx ({type(error).__name__}).") from error


def _csv_rows(data: bytes, max_rows: int, max_columns: int) -> list[list[str]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConversionError(f"The CSV is not UTF-8 (byte {error.start}).") from error
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    try:
        return _bounded(csv.reader(io.StringIO(text), delimiter=delimiter), max_rows, max_columns)
    except csv.Error as error:
        raise ConversionError(f"The CSV can't be read: {error}.") from error


def _bounded(source: Iterable[Iterable[Any]], max_rows: int, max_columns: int) -> list[list[str]]:
    rows: list[list[str]] = []
    for values in source:
        row = ["" if value is None else str(value) for value in values]
        while row and not row[-1]:
            row.pop()
        if not row:
            continue
        if len(row) > max_columns:
            raise ConversionError(f"The sheet has more than {max_columns} columns.")
        # One more than the limit, for the header.
        if len(rows) > max_rows:
            raise ConversionError(f"The sheet has more than {max_rows} rows.")
        rows.append(row)
    return rows


def _docx(table: Table) -> bytes:
    document = docx.Document()
    document.add_heading(_xml_text(table.title), level=1)
    document.add_paragraph(f"{len(table.rows)} rows, {len(table.header)} columns")
    grid = document.add_table(rows=1 + len(table.rows), cols=len(table.header), style="Table Grid")
    for row, values in zip(grid.rows, (table.header, *table.rows), strict=True):
        for cell, value in zip(row.cells, values, strict=True):
            cell.text = _xml_text(value)
    for cell in grid.rows[0].cells:
        for run in cell.paragraphs[0].runs:
            run.bold = True
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def _xml_text(value: str) -> str:
    """XML 1.0 has no control characters but tab and line ends; lxml refuses the others."""
    return "".join(char for char in value if char >= " " or char in "\t\n\r")


def _html(table: Table) -> bytes:
    def row(values: tuple[str, ...], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(value)}</{tag}>" for value in values) + "</tr>"

    title = html.escape(table.title)
    body = "\n".join(row(values, "td") for values in table.rows)
    page = (
        f'<!doctype html>\n<html><head><meta charset="utf-8"><title>{title}</title></head>\n'
        f"<body><h1>{title}</h1>\n<table>\n<thead>{row(table.header, 'th')}</thead>\n"
        f"<tbody>\n{body}\n</tbody>\n</table></body></html>\n"
    )
    return page.encode()
