"""The order in which services can be started."""

from typing import Any, Dict, List, Set, Tuple


def in_order(services: Dict[str, Dict[str, Any]]) -> Tuple[str, ...]:
    """The names of services, each after what it depends on; a ring is cut where it was entered."""
    done: List[str] = []
    seen: Set[str] = set()

    def visit(name: str) -> None:
        if name in seen or name not in services:
            return
        seen.add(name)
        for needed in sorted(services[name].get("depends_on") or []):
            visit(needed)
        done.append(name)

    for name in sorted(services):
        visit(name)
    return tuple(done)
