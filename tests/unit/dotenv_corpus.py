"""Env files as they are found in the wild, and what the real programs made of them.

``dotenv_corpus.json`` beside this file has, for each, what Compose 2.26.1 and ``docker create --env-file``
26.1.5 read on a practice host: the variables, or ``null`` where they refused the file. The lab tests ask a
real one again; ``python -m tests.lab.record_dotenv LAB`` writes the file anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).with_suffix(".json")

CASES: dict[str, bytes] = {
    name: text if isinstance(text, bytes) else text.encode()
    for name, text in {
        # What the examples of many projects look like.
        "plain": "A=1\nB=two words\nC=\n\n# a comment\n  # another\nD=x#y\n",
        "django": "SECRET_KEY='django-insecure-$a)1(x#z&^'\nDEBUG=True\nALLOWED_HOSTS=.example.org\n"
        "DATABASE_URL=postgres://app:p%40ss@db:5432/app?sslmode=require\n",
        "laravel": 'APP_NAME="My App"\nAPP_KEY=base64:Zm9vYmFy+/==\nMAIL_FROM="${APP_NAME}"\nAPP_URL=http://localhost\n'
        "MAIL_PORT=null\n",
        "shell": 'export A=1\nexport B="two"\nexport   C=three\nexport\tD=4\nexported=5\nexportE=6\n',
        "bare-export": "A=1\nexport A\nB=2\n",
        "colon": "A: 1\nB : 2\nC:3\nD: 'x: y'\n",
        "url-colon": "A=http://x:1/y\nB:http://x\n",
        # Dollars.
        "dollar-name": "A=pa$word\nB=\"pa$word\"\nC='pa$word'\n",
        "dollar-bcrypt": "A=$2y$10$abcdef\nB='$2y$10$abcdef'\nC=\"$2y$10$abcdef\"\nD=$$2y$$10$$abcdef\n",
        "dollar-end": 'A=pa$\nB="pa$"\nC=$\nD=100$ off\nE=$ x\nF=a$-b\n',
        "dollar-double": "A=pa$$word\nB=\"pa$$word\"\nC='pa$$word'\nD=$$$$\nE=$$$A\n",
        "dollar-braces": "K=k\nA=${K}\nB=${MISSING}\nC=${MISSING:-d}\nD=${K:+yes}\nE=${MISSING:+yes}x\n"
        "F=\"${K}\"\nG='${K}'\n",
        "dollar-nested": "K=k\nA=${M:-${K}}\nB=${M:-${N:-deep}}\nC=${M:-a}${K}${N:-}\nD=${M-d}\nE=${K-d}\n",
        "dollar-escaped": 'A="pa\\$word"\nB=pa\\$word\nC=\'pa\\$word\'\nD="\\$$"\nE="\\\\$x"\nF="\\\\\\$x"\n',
        "dollar-open": "A=${\n",
        "dollar-open-name": "A=x${K\n",
        "dollar-bad": "A=${1x}\n",
        "dollar-empty": "A=${}\n",
        "dollar-space": "A=${K }\n",
        "dollar-required": "A=${K:?give it}\n",
        "dollar-command": "A=$(date)\nB=`date`\n",
        "dollar-self": "A=1\nA=${A}2\n",
        "dollar-later": "A=${B}x\nB=1\n",
        "dollar-unicode": "A=$éx\nB=${é}\n",
        # Quotes.
        "quotes": "A=\"x\"\nB='x'\nC=\"\"\nD=''\nE=\"x\" \nF= 'x'\n",
        "quote-inside": 'A=it\'s\nB=say "hi"\nC="it\'s"\nD=\'say "hi"\'\nE=x"y"\n',
        "quote-escaped": 'A="say \\"hi\\""\nB=\'it\\\'s\'\nC="a\\\\"\nD=\'a\\\\\'\n',
        "quote-comment": "A=\"x\" # note\nB='x' # note\nC=\"x # y\"\nD='x # y'\n",
        "quote-comment-tight": 'A="x"# note\nB=2\n',
        "quote-rest": 'A="x"y\nB=2\n',
        "quote-rest-value": 'A="x" B=2\nC=3\n',
        "quote-open": 'A=1\nB="open\nC=3\n',
        "quote-open-single": "A=1\nB='open\nC=3\n",
        "quote-backtick": "A=`x y`\nB=`x\n",
        "quote-smart": "A=“x”\nB=\u2018y\u2019\n",
        "json": 'A={"a": "b", "c": [1, 2]}\nB=\'{"a": "b"}\'\nC="{\\"a\\": \\"b\\"}"\n',
        # Escapes.
        "escapes": "A=\"a\\nb\"\nB='a\\nb'\nC=a\\nb\n"
        'D="a\\tb\\rc"\nE="\\a\\b\\f\\v"\nF="\\q\\ \\x41\\u00e9"\n',
        "escapes-octal": 'A="\\0101"\nB="\\0777"\nC="\\0"\nD="\\012"\nE="\\09"\n',
        "escapes-octal-high": 'A="\\0351"\nB="\\0303\\0251"\nC="\\0377"\n',
        "escapes-c": 'A="a\\cb"\nB="\\c"\n',
        "backslash": "A=C:\\temp\\new\nB=\"C:\\temp\\new\"\nC='C:\\temp\\new'\nD=a\\\nE=2\n",
        "backslash-end": 'A="x\\\\"\nB="y"\n',
        # Comments.
        "comments": "A=x # note\nB=x# note\nC=x #note\nD=#x\nE= # note\nF=x\t# note\nG=x ## y\nH='x'#y\n",
        "comment-only": "# nothing\n#A=1\n",
        "comment-quote": "A=x # it's\nB=2\n",
        # Blanks.
        "blanks": "A = 1\n B=2\n\tC=3\nD=\t4\nE= 5 \nF=6\t\n",
        "blank-key": "A B=1\n",
        "blank-key-tab": "A\tB=1\n",
        "set": "set A=1\n",
        "no-newline": "A=1\nB=2",
        "empty": "",
        "blank-lines": "\n \n\t\nA=1\n\n\n",
        "form-feed": "A=1\x0cB\n\x0cC=2\nD=x\x0b\n",
        "nbsp": "A=x\u00a0\nB=\u00a0y\n\u00a0C=3\nD=a\u00a0#b\n",
        "unicode-spaces": "A=x\u2003\nB=\u2003y\nC=x\u2028y\nD=x\u3000\n",
        "nel": "A=x\u0085\nB=\u0085y\n",
        # Lines.
        "crlf": "A=1\r\nB=\"2\"\r\nC='3'\r\nD=x # y\r\nE=\r\n",
        "crlf-multi": 'A="one\r\ntwo"\r\nB=2\r\n',
        "cr": "A=1\rB=2\rC=3\r",
        "cr-inside": 'A=x\ry\nB="x\ry"\n',
        "multi": 'A="one\ntwo"\nB=2\n',
        "multi-single": "A='one\ntwo\n'\nB=2\n",
        "multi-key": 'KEY="-----BEGIN KEY-----\nab+/=\nc#d\n-----END KEY-----"\nB=2\n',
        "multi-unquoted": "KEY=-----BEGIN KEY-----\nab+/=\n-----END KEY-----\n",
        "multi-triple": '"""\nA=1\n"""\n',
        "multi-triple-value": 'A="""\nx\n"""\nB=2\n',
        "continued": "A=one \\\ntwo\n",
        "heredoc": "A=<<EOF\nx\nEOF\n",
        # Keys.
        "keys": "a=1\nA_b=2\n_C=3\nD.e=4\nF-g=5\nH[0]=6\nÉ=7\n1X=8\n123=9\n",
        "key-lower": "http_proxy=x\nHTTP_PROXY=y\n",
        "key-quoted": '"A"=1\n',
        "key-quoted-single": "'A'=1\n",
        "key-slash": "A/B=1\n",
        "key-star": "A*=1\n",
        "key-missing": "=1\n",
        "key-bare": "A\nB=1\n",
        "key-bare-end": "B=1\nA",
        "key-bare-blank": "A \nB=1\n",
        "key-dollar": "$A=1\n",
        "key-section": "[section]\nA=1\n",
        "key-unicode-digit": "A²=1\nB٣=2\n",
        "ini": "; comment\nA=1\n",
        "slashes": "// comment\nA=1\n",
        "yaml": "A: 1\nB:\n  - x\n",
        "yaml-list": "- A=1\n",
        "json-file": '{"A": "1"}\n',
        "twice": "A=1\nB=2\nA=3\n",
        "twice-using": "A=1\nB=${A}\nA=3\nC=${A}\n",
        # Bytes.
        "bom": b"\xef\xbb\xbfA=1\nB=2\n",
        "bom-inside": "A=1\n\ufeffB=2\n",
        "bom-comment": b"\xef\xbb\xbf# x\nA=1\n",
        "latin1": b"A=caf\xe9\nB=2\n",
        "latin1-comment": b"# caf\xe9\nA=1\n",
        "utf16": "A=1\n".encode("utf-16"),
        "nul": b"A=x\0y\nB=2\n",
        "control": b"A=x\x01\x7fy\nB=\x1b[0m\n",
        "emoji": "A=😀é漢\nB='😀 #'\n",
        "long": "A=" + "x" * 65_000 + "\nB=1\n",
        "longer": "A=" + "x" * 66_000 + "\nB=1\n",
        "equals": "A==\nB=a=b=c\nC= =\n",
        "punctuation": "A=!@%^&*()_+-=[]{}|;:,.<>?/~\nB='!@%^&*()'\nC=~/x\nD=*\nE=a&b\n",
        "percent": "A=%d\nB=100%\n",
        "windows": "set A=1\r\n",
    }.items()
}


def recorded() -> dict[str, dict[str, Any]]:
    """Case to ``{"compose": {key: value} | null, "docker": [[key, value] …] | null}``."""
    found: dict[str, dict[str, Any]] = json.loads(RECORDED.read_text())
    return found


def short(value: str) -> str:
    """A value as it is recorded: a long one by its beginning and length."""
    return value if len(value) < 200 else f"{value[:20]}… ({len(value)})"
