"""The program that changes a host. Standard library only, Python 3.9 and later.

It is copied to the host and runs there by itself: nothing in here imports the rest of Longshore, and
the rest imports nothing from here but :mod:`longshore.agent.wire`.
"""
