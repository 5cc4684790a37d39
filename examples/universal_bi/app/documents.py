"""Notes about the tables, in the ``chroma_db`` folder.

The real system keeps them in ChromaDB. Here it is one SQLite file in the same folder, which is what matters
for a deployment: local state on a volume, with one writer. The chromadb package would add hundreds of MB.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from app.embedding import embed, nearest

_TABLE = """CREATE TABLE IF NOT EXISTS documents (
    id INTEGER PRIMARY KEY, collection TEXT NOT NULL, text TEXT NOT NULL, embedding TEXT NOT NULL)"""


class Documents:
    """One collection of texts. Every call opens the file, so threads share nothing."""

    def __init__(self, folder: Path, collection: str, dimension: int) -> None:
        self.file = folder / "documents.sqlite3"
        self.collection = collection
        self.dimension = dimension
        folder.mkdir(parents=True, exist_ok=True)

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.file, timeout=2)
        connection.execute(_TABLE)
        return connection

    def add(self, text: str) -> int:
        """Store a text and return its id."""
        vector = json.dumps(embed(text, self.dimension))
        with closing(self._open()) as connection, connection:
            return int(
                connection.execute(
                    "INSERT INTO documents (collection, text, embedding) VALUES (?, ?, ?) RETURNING id",
                    (self.collection, text, vector),
                ).fetchone()[0]
            )

    def search(self, query: str, *, limit: int, min_score: float) -> list[tuple[str, float]]:
        """Text and cosine of the most alike, best first."""
        with closing(self._open()) as connection:
            rows = connection.execute(
                "SELECT text, embedding FROM documents WHERE collection = ?", (self.collection,)
            ).fetchall()
        return nearest(
            embed(query, self.dimension),
            ((text, json.loads(vector)) for text, vector in rows),
            limit=limit,
            min_score=min_score,
        )

    def check(self) -> None:
        """Raise when the folder can't be written: a volume that is full, gone, or someone else's."""
        with closing(self._open()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
