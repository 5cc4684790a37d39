"""A command reaches its program as it was meant, whatever the login shell of the host is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from longshore.remote import program, quoting

SHELLS = [path for name in ("sh", "bash", "zsh", "fish", "tcsh", "csh") if (path := shutil.which(name))]
WORDS = [
    "plain", "", "two words", "it's", "'", "a\\b", "a\\\\b", "\\", "\\\\", "\\'", "end\\", "!", "a!b", "!!",
    "!=",
    '"$HOME"', "`id`", "$(id)", "*", "~", "=ls", "%self", "a=b", "#x", "é", "{a,b}", "^a", "a;b|c&d<e>f(g)",
]  # fmt: skip


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_reads_each_word_back(shell: str) -> None:
    echo = "import sys; sys.stdout.write(chr(0).join(sys.argv[1:]))"
    command = quoting.join([sys.executable, "-c", echo, *WORDS])
    done = subprocess.run([shell, "-c", command], capture_output=True, check=True, timeout=30)
    assert done.stdout.decode().split("\0") == WORDS


def _as_fish_reads(text: str) -> list[str]:
    """The words of a line, by fish's rules: in single quotes a backslash stands before itself and a quote."""
    words = re.findall(r"(?:'(?:\\[\\']|[^'])*'|\\.|[^\s'\\])+", text, re.DOTALL)
    part = re.compile(r"'((?:\\[\\']|[^'])*)'|\\(.)|([^'\\])", re.DOTALL)

    def plain(match: re.Match[str]) -> str:
        if match[1] is not None:
            return re.sub(r"\\([\\'])", r"\1", match[1])
        return match[2] or match[3]

    return [part.sub(plain, word) for word in words]


def test_the_agent_starts_where_the_login_shell_is_fish(tmp_path: Path) -> None:
    argv = program.command(program.agent(), state_dir=str(tmp_path / "state"), python=sys.executable)
    assert _as_fish_reads(quoting.join(argv)) == argv
