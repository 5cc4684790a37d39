"""What goes wrong around a deploy, done on purpose on practice hosts, and what the hosts serve afterwards.

``bin/test faults`` runs it; docs/reliability.md has the table that it writes. ``cases`` says what is done,
``actions`` does it, ``ground`` is what it is done to, ``observe`` looks at the hosts and ``judge`` says what
is wrong with what was seen. ``gates`` and ``controller`` stop a run at an exact place.
"""
