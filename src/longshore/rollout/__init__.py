"""Running a plan over the fleet, and taking it back when it is not good.

Only the values here: :class:`longshore.rollout.rollout.Rollout` is imported when there is something to do.
"""

from longshore.rollout.moves import Facts, HostReport, Move, Report

__all__ = ["Facts", "HostReport", "Move", "Report"]
