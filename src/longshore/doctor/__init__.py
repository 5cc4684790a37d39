"""``invoke doctor``: what of the hosts and of this machine is good, and what isn't, before it matters.

Asking (:mod:`~longshore.doctor.ask`, and on a host :mod:`~longshore.doctor.host`) is apart from judging
(:mod:`~longshore.doctor.judge`, facts in, findings out).
Nothing is changed anywhere: not even an agent is left.
"""

from longshore.doctor.finding import Finding, Seen, Wanted

__all__ = ["Finding", "Seen", "Wanted"]
