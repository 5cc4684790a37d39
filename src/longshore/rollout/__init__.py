"""Running a plan over the fleet, and taking it back when it is not good."""

from longshore.rollout.moves import Facts, HostReport, Move, Report
from longshore.rollout.rollout import Rollout

__all__ = ["Facts", "HostReport", "Move", "Report", "Rollout"]
