"""Imports Invoke without what no command needs of it, which is nearly half of its time.

Invoke's ``Context`` has a ``MockContext`` beside it, for tests, and for that imports ``unittest.mock``, which
brings ``unittest`` and ``asyncio``. And Invoke has a copy of PyYAML of its own, where we have PyYAML. Whoever
has imported Invoke before (``invoke deploy`` instead of ``longshore deploy``) has paid already, and nothing
is changed.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import yaml

_MOCK = "unittest.mock"


class _Mock:
    """What ``MockContext`` finds instead of ``unittest.mock.Mock``: that one, when it is first used."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        from unittest.mock import Mock

        return Mock(*args, **kwargs)


def import_invoke() -> None:
    """Import Invoke; to be called before anything else does."""
    if "invoke" not in sys.modules and _MOCK not in sys.modules:
        stand_in = ModuleType(_MOCK)
        stand_in.Mock = _Mock  # type: ignore[attr-defined]
        sys.modules[_MOCK] = stand_in
        sys.modules["invoke.vendor.yaml"] = yaml
        try:
            import invoke  # noqa: F401
        finally:
            # From here on it is the standard library's for whoever asks.
            del sys.modules[_MOCK]


import_invoke()
