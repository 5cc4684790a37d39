"""Deciding from outside whether a release is good. (The containers' own health is the agent's part.)"""

from longshore.verify.smoke import SmokeResult, distinct, run_checks

__all__ = ["SmokeResult", "distinct", "run_checks"]
