"""What an agent imports at its start: every command on every host waits for it."""

from __future__ import annotations

import subprocess
import sys

SLOW = {"subprocess", "tempfile", "shutil", "tarfile", "http.client", "email", "ssl", "asyncio", "logging"}


def test_a_look_at_a_host_imports_nothing_slow() -> None:
    script = "import sys, longshore.agent.main, longshore.agent.inspect; print(' '.join(sorted(sys.modules)))"
    argv = [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {script}"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert "longshore.agent.inspect" in imported
    assert not imported & SLOW
    assert not imported & {f"longshore.agent.{name}" for name in ("switch", "stage", "compose", "boot")}
