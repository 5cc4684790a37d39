"""Talking to what runs: logs, commands and databases, over the Docker SDK on the hosts' own connections.

What changes a host is the agent's; what is shown, and the exit codes, are the tasks'.
"""
