"""From a bare Debian or Ubuntu host to one that can be deployed to: engine, Compose, settings, folders.

:func:`bootstrap_host` is the story of one host; what runs there is :mod:`longshore.bootstrap.host`.
"""

from longshore.bootstrap.run import Outcome, bootstrap_host
from longshore.bootstrap.settings import BootstrapOptions, user_name, wish

__all__ = ["BootstrapOptions", "Outcome", "bootstrap_host", "user_name", "wish"]
