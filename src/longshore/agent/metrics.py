"""What the proxy counts of its services (Prometheus text), and what has come to it since a moment."""

import re
from typing import Any, Dict, Iterable, Optional, Tuple

_REQUESTS = "traefik_service_requests_total"
_BUCKET = "traefik_service_request_duration_seconds_bucket"
_START = "process_start_time_seconds"
_LINE = re.compile(r"([a-z_]+)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Counts = Dict[str, float]
"""Of one service: ``requests``, ``errors`` (5xx), and under each bound of the histogram (``le``, in s) the
requests that took no longer."""


def read(
    text: str, services: Iterable[str], methods: Optional[Iterable[str]] = None
) -> Tuple[str, Dict[str, Counts]]:
    """When the proxy started, and its counters of these services (names at Traefik's file provider).

    ``methods``: only these. WebSockets and event streams are left out: they last as long as people stay.
    """
    wanted = {f"{name}@file": name for name in services}
    only = None if methods is None else set(methods)
    found: Dict[str, Counts] = {name: {"requests": 0.0, "errors": 0.0} for name in wanted.values()}
    started = ""
    for line in text.splitlines():
        if line.startswith(_START):
            started = line.partition(" ")[2]
        if not line.startswith((_REQUESTS, _BUCKET)):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        labels = dict(_LABEL.findall(match[2] or ""))
        name = wanted.get(labels.get("service", ""))
        if name is None or labels.get("protocol") != "http":
            continue
        if only is not None and labels.get("method") not in only:
            continue
        mine, value = found[name], float(match[3])
        if match[1] == _BUCKET:
            mine[labels["le"]] = mine.get(labels["le"], 0.0) + value
        elif match[1] == _REQUESTS:
            mine["requests"] += value
            if labels.get("code", "").startswith("5"):
                mine["errors"] += value
    return started, found


class Meter:
    """Adds up what the counters of these services have grown by. A proxy that took over from another counts
    from nothing; what the old one counted last of all is missing then."""

    def __init__(self, services: Iterable[str], methods: Optional[Iterable[str]] = None) -> None:
        self.services = list(services)
        self.methods = methods
        self.totals: Dict[str, Counts] = {name: {"requests": 0.0, "errors": 0.0} for name in self.services}
        self._last: Optional[Tuple[str, Dict[str, Counts]]] = None

    def add(self, text: str) -> None:
        """Take in what the proxy says now. What it says first is where counting begins."""
        started, now = read(text, self.services, self.methods)
        if self._last is not None:
            before = self._last[1] if self._last[0] == started else {}
            for name, counts in now.items():
                for key, value in counts.items():
                    grown = value - before.get(name, {}).get(key, 0.0)
                    self.totals[name][key] = self.totals[name].get(key, 0.0) + max(0.0, grown)
        self._last = started, now

    def of(self, name: str) -> Dict[str, Any]:
        """What one service has got since: ``requests``, ``errors``, and ``within``, pairs of a time (s) and
        how many took no longer, from the shortest time on."""
        counts = self.totals[name]
        within = [
            [float(key), int(value)]
            for key, value in counts.items()
            if key not in ("requests", "errors", "+Inf")
        ]
        return {
            "requests": int(counts["requests"]),
            "errors": int(counts["errors"]),
            "within": sorted(within),
        }
