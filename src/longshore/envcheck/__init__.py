"""What is wrong or doubtful about env files, before a host is touched. It reads, and never writes.

:mod:`~longshore.envcheck.text` is about the text of one file, :mod:`~longshore.envcheck.values` about
secrets, :mod:`~longshore.envcheck.usage` about who uses which variable, :mod:`~longshore.envcheck.check` is
the story; :mod:`~longshore.envcheck.compare` sets two environments side by side.
"""

from longshore.envcheck.check import Checked, check_environment, check_file
from longshore.envcheck.compare import Difference, compare
from longshore.envcheck.finding import CODES, Finding

__all__ = [
    "CODES",
    "Checked",
    "Difference",
    "Finding",
    "check_environment",
    "check_file",
    "compare",
]
