"""What bootstrap runs on the host: standard library only, Python 3.9 and newer, nothing of the rest.

It travels as text over standard input (:mod:`longshore.bootstrap.program`) and leaves no file of its own.
"""
