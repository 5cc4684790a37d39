"""What a deploy would do, host by host, service by service and field by field, and why. Touches nothing."""

from longshore.plan.make import make_plan, question, unfinished
from longshore.plan.model import Change, FileDiff, HostPlan, Plan, ServiceStep
from longshore.plan.veil import new_salt
from longshore.plan.words import grouped, summary

__all__ = [
    "Change",
    "FileDiff",
    "HostPlan",
    "Plan",
    "ServiceStep",
    "grouped",
    "make_plan",
    "new_salt",
    "question",
    "summary",
    "unfinished",
]
