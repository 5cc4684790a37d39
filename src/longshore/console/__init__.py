"""What a person, a log or a program sees: text, live rows or JSON lines, with secrets masked."""

from longshore.console.masks import Masks
from longshore.console.output import Output, make_output
from longshore.console.words import bytes_text, seconds_text, when_text

__all__ = ["Masks", "Output", "bytes_text", "make_output", "seconds_text", "when_text"]
