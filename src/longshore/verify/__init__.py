"""Deciding from outside whether a release is good. (The containers' own health is the agent's part.)"""

from longshore.verify.smoke import SmokeResult, run_checks

__all__ = ["SmokeResult", "run_checks"]
