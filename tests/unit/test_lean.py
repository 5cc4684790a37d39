"""A command imports Invoke without what only tests need of it."""

from __future__ import annotations

import subprocess
import sys


def python(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_command_imports_neither_asyncio_nor_unittest() -> None:
    names = "longshore.tasks, longshore.remote.ssh, longshore.render, longshore.rollout.rollout"
    found = python(f"import sys, {names}; print(sorted({{'asyncio', 'unittest'}} & set(sys.modules)))")
    assert found == "[]"


def test_the_real_mock_is_there_for_whoever_asks() -> None:
    script = "import longshore.tasks, unittest.mock as m; print(m.Mock(return_value=7)(), m.__file__ is None)"
    assert python(script) == "7 False"


def test_invokes_mock_context_works_all_the_same() -> None:
    script = (
        "import longshore.tasks; from invoke import MockContext; c = MockContext(run={'ls': 'a file'});"
        " print(c.run('ls').stdout); c.run.assert_called_once_with('ls')"
    )
    assert python(script) == "a file"


def test_who_has_imported_invoke_before_keeps_what_they_have() -> None:
    script = (
        "import sys, invoke.context; before = invoke.context.Mock; import longshore.tasks, unittest.mock;"
        " print(before is invoke.context.Mock is unittest.mock.Mock)"
    )
    assert python(script) == "True"


def test_invokes_own_settings_are_read() -> None:
    script = (
        "import longshore.tasks, pathlib, tempfile; from invoke.config import Config;"
        " folder = tempfile.mkdtemp(); pathlib.Path(folder, 'invoke.yaml').write_text('run: {echo: true}');"
        " config = Config(project_location=folder); config.load_project(); print(config.run.echo)"
    )
    assert python(script) == "True"
