"""Excel2Doc: turns a spreadsheet into a document. A small but real service, to be deployed by Longshore."""

VERSION = "1.0.0"
