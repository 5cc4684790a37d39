"""What is sent to a builder: `.dockerignore` as Docker reads it, and the tar."""

from __future__ import annotations

import io
import socket
import tarfile
from pathlib import Path

import pytest

from longshore.errors import LongshoreError
from longshore.images.context import CHUNK, Context, context_of, stream
from longshore.images.ignore import Ignore, parse

# Of moby/patternmatcher's own tests (patternmatcher_test.go), and of the manual's examples.
CASES = [
    ("**", "file", True),
    ("**/", "dir/file", True),
    ("**", "dir/file", True),
    ("dir/**", "dir/file", True),
    ("dir/**", "dir/dir2/file", True),
    ("dir/**", "dir", False),
    ("**/dir2/*", "dir/dir2/file", True),
    ("**/dir2/*", "dir/dir2/dir3/file", True),
    ("**file", "file", True),
    ("**file", "dir/file", True),
    ("**file", "notfile", True),
    ("**/file", "notfile", False),
    ("**/file", "dir/dir/file", True),
    ("**/file*", "dir/dir/file.txt", True),
    ("**/file*txt", "dir/dir/file.txt", True),
    ("**/file*.txt*", "dir/dir/file.txt", True),
    ("**/**/*.txt", "dir/dir/file.txt", True),
    ("**/**/*.txt2", "dir/dir/file.txt", False),
    ("**/*.txt", "file.txt", True),
    ("a**/*.txt", "a/file.txt", True),
    ("a**/*.txt", "a/dir/dir/file.txt", True),
    ("a/*.txt", "a/dir/file.txt", False),
    ("a/**", "a/file", True),
    ("a[b-d]e", "ae", False),
    ("a[b-d]e", "ace", True),
    ("a[b-d]e", "aae", False),
    ("a[^b-d]e", "aze", True),
    (".*", ".foo", True),
    (".*", "foo", False),
    ("abc.def", "abcZdef", False),
    ("abc?def", "abcZdef", True),
    ("abc?def", "abcdef", False),
    ("a\\*b", "a*b", True),
    ("a\\*b", "axb", False),
    ("\\ab", "ab", True),
    ("**/.git", "sub/.git/config", True),
    ("foo", "foo/bar", True),
    ("/foo", "foo", True),
    ("./foo/", "foo/bar", True),
    ("foo/../bar", "bar", True),
    ("a+b(c)", "a+b(c)", True),
    ("*", "a/b", True),
    ("*/temp*", "somedir/temporary.txt", True),
    ("*/*/temp*", "somedir/subdir/temporary.txt", True),
    ("temp?", "tempa", True),
]


@pytest.mark.parametrize(("pattern", "path", "ignored"), CASES)
def test_a_pattern_matches_what_docker_matches(pattern: str, path: str, ignored: bool) -> None:
    assert parse(pattern).matches(path) is ignored


def test_the_last_pattern_that_matches_decides() -> None:
    ignore = parse("*.md\n!README*.md\nREADME-secret.md\n")
    assert [ignore.matches(name) for name in ("a.md", "README.md", "README-secret.md")] == [True, False, True]
    other = parse("*.md\nREADME-secret.md\n!README*.md\n")
    assert not other.matches("README-secret.md")


def test_comments_spaces_and_the_byte_order_mark_are_read_as_docker_does() -> None:
    ignore = parse("\ufeff# a comment\n  # no comment\n\n  spaced  \n! spaced/kept\n")
    assert ignore.matches("spaced/a") and ignore.matches("# no comment")
    assert not ignore.matches("spaced/kept")


@pytest.mark.parametrize("text", ["a\n!\n", "a\n[z\n", "a\nx\\"])
def test_a_pattern_that_cannot_be_is_named_with_its_line(text: str) -> None:
    with pytest.raises(LongshoreError, match=r"\.dockerignore:2"):
        parse(text)


def _packed(context: Context) -> dict[str, tarfile.TarInfo]:
    pieces: list[bytes] = []
    size = stream(context, pieces.append)
    data = b"".join(pieces)
    assert size == len(data) and all(len(piece) <= 2 * CHUNK for piece in pieces)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive}


def test_an_exception_inside_an_ignored_folder_brings_the_folder_and_only_that_file(tmp_path: Path) -> None:
    for name in ("docs/api/keep.txt", "docs/api/other.txt", "docs/more/x", "src/main.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / ".dockerignore").write_text("docs\n!docs/api/keep.txt\n")
    found = _packed(context_of(tmp_path, tmp_path / "Dockerfile"))
    assert list(found) == [".dockerignore", "docs", "docs/api", "docs/api/keep.txt", "src", "src/main.py"]


def test_what_lies_beside_the_dockerfile_wins_over_the_folders_own(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "b.txt").write_text("x")
    (tmp_path / ".dockerignore").write_text("a.txt\n")
    (tmp_path / "web.Dockerfile.dockerignore").write_text("b.txt\n.docker*\n*ignore")
    assert list(_packed(context_of(tmp_path, tmp_path / "web.Dockerfile"))) == ["a.txt"]
    assert "a.txt" not in _packed(context_of(tmp_path, tmp_path / "Dockerfile"))


def test_links_go_as_links_modes_stay_owners_are_roots_and_sockets_stay_here(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "empty").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "sock"))
        found = _packed(Context(tmp_path, Ignore()))
    assert set(found) == {"run.sh", "link", "empty"}
    assert found["run.sh"].mode == 0o755 and found["run.sh"].uid == 0 and found["run.sh"].uname == ""
    assert found["link"].issym() and found["link"].linkname == "/etc/passwd"


def test_the_same_folder_is_the_same_bytes(tmp_path: Path) -> None:
    for name in ("b", "a", "c/d"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    one: list[bytes] = []
    two: list[bytes] = []
    stream(Context(tmp_path, Ignore()), one.append)
    stream(Context(tmp_path, Ignore()), two.append)
    assert one == two
