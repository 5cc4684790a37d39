"""What ``doctor`` runs on a host: standard library only, Python 3.9 and newer; of the rest only modules of
the agent and of bootstrap that run there, too. It travels over standard input, and writes nothing there.
"""
