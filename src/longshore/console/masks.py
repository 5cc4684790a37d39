"""Masking secrets by their value: the same on both sides, so it is the agent's."""

from longshore.agent.masks import COMMON, MASK, SHORTEST, WHOLE_WORDS, Masks, maskable

__all__ = ["COMMON", "MASK", "SHORTEST", "WHOLE_WORDS", "Masks", "maskable"]
