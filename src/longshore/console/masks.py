"""Masking secrets by their value: the same on both sides, so it is the agent's.

And what is told where no output is at hand (a traceback of ``--debug``, a log record) is masked with what the
run knows: :func:`remember` is called by the outputs, :func:`known` by whoever has to tell.
"""

from __future__ import annotations

import logging
import traceback

from longshore.agent.masks import COMMON, MASK, SHORTEST, WHOLE_WORDS, Masks, maskable

__all__ = [
    "COMMON",
    "MASK",
    "SHORTEST",
    "WHOLE_WORDS",
    "MaskedRecords",
    "Masks",
    "known",
    "maskable",
    "masked_traceback",
    "remember",
]

_known = Masks()


def remember(masks: Masks) -> None:
    """From now on these count for everything that this process tells."""
    global _known
    _known = masks


def known() -> Masks:
    """The masks of the run."""
    return _known


def masked_traceback(error: BaseException) -> str:
    """An error's traceback as Python prints it, with secrets masked."""
    return _known.text("".join(traceback.format_exception(type(error), error, error.__traceback__)))


class MaskedRecords(logging.Filter):
    """For a handler of logs: what goes through it is masked."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = _known.text(record.getMessage()), ()
        if record.exc_info and record.exc_info[1]:
            record.exc_text = masked_traceback(record.exc_info[1])
        return True
