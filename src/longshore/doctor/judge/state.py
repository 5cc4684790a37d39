"""What is to be said of the host itself: its system, clock, disks, our folder, and what was left behind."""

from __future__ import annotations

from collections.abc import Iterator

from longshore.console import bytes_text
from longshore.doctor.finding import Finding, Level, Seen, Wanted
from longshore.images.check import SPARE

ROOM = 2 * 1000 * 1000 * 1000
"""Bytes: less than that is soon used up by a release and its images."""
CLOCK_WARNING, CLOCK_ERROR = 2.0, 300.0
"""Seconds. Tokens of registries and certificates are refused by clocks that are minutes off."""
_CLOCK_HINT = "Have it set by the network: `timedatectl set-ntp true`, or install chrony."


def system(wanted: Wanted, seen: Seen) -> Iterator[Finding]:
    """What it is, and as whom we are there."""
    facts = seen.of("system")
    if facts:
        text = f"{facts['name']}, kernel {facts['kernel']}, python {facts['python']}, as {facts['user']}"
        yield Finding("good", "reached", text)


def clock(wanted: Wanted, seen: Seen) -> Iterator[Finding]:
    """How far its clock is from this machine's, as far as that can be told from here."""
    off = max(0.0, abs(seen.ahead) - seen.slack)
    way = "ahead of" if seen.ahead > 0 else "behind"
    if off < CLOCK_WARNING:
        yield Finding("good", "clock", "its clock agrees with this machine's")
        return
    level: Level = "error" if off >= CLOCK_ERROR else "warning"
    yield Finding(level, "clock", f"its clock is {off:.0f} s {way} this machine's", _CLOCK_HINT)


def disks(wanted: Wanted, seen: Seen) -> Iterator[Finding]:
    """Room and inodes, of the disk of our folder and the engine's."""
    for disk in seen.rows("disks"):
        folder, free, size = str(disk["folder"]), int(disk["free"]), int(disk["size"])
        text = f"{bytes_text(free)} of {bytes_text(size)} are free on the disk of {folder}"
        inodes = int(disk["inodes_free"]) * 100 // int(disk["inodes"]) if disk["inodes"] else 100
        if free < SPARE or inodes < 1:
            why = text if free < SPARE else f"no inodes are left on the disk of {folder}"
            yield Finding("error", "disk", why, f"`invoke cleanup --env … --limit {wanted.host}` frees some.")
        elif free < ROOM or free * 10 < size or inodes < 10:
            why = text if inodes >= 10 else f"{inodes} % of the inodes are left on the disk of {folder}"
            hint = f"`invoke cleanup --env … --limit {wanted.host} --cache-hours 168` frees some."
            yield Finding("warning", "disk", why, hint)
        else:
            yield Finding("good", "disk", text)


def folder(wanted: Wanted, seen: Seen) -> Iterator[Finding]:
    """Our folder: whose it is, and who may read it."""
    facts, path = seen.of("folder"), wanted.state_dir
    if not facts:
        return
    if not facts["there"]:
        yield Finding("warning", "state-dir", f"there is no {path} yet", "`invoke bootstrap` makes it.")
    elif not facts["folder"]:
        yield Finding("error", "state-dir", f"{path} is no folder", "Move it away, or set `state_dir`.")
    elif not facts["ours"]:
        yield Finding(
            "error",
            "state-dir",
            f"{path} belongs to {facts['owner']}, and we come as {seen.of('system').get('user', 'another')}",
            "Deploy as its owner (`ansible_user`, `ansible_become`), or give it to another with `invoke"
            " bootstrap --user`.",
        )
    elif facts["mode"] & 0o022:
        text = f"{path} can be written by others (mode {facts['mode']:04o}), so nothing is run from it"
        yield Finding("error", "state-dir", text, f"`chmod 0700 {path}` on the host.")
    elif facts["mode"] & 0o077:
        text = f"{path} can be read by others (mode {facts['mode']:04o})"
        yield Finding(
            "warning", "state-dir", text, f"`invoke bootstrap`, or `chmod 0700 {path}` on the host."
        )
    else:
        yield Finding("good", "state-dir", f"{path} is {facts['owner']}'s, and closed to others")


def leftovers(wanted: Wanted, seen: Seen) -> Iterator[Finding]:
    """Runs that are at work, that ended in the middle, and holds that people have put on apps."""
    for one in seen.rows("apps"):
        app, holder, hold = one["app"], one["lock"], one["hold"]
        if holder is not None:
            who = holder.get("by") or "another run"
            yield Finding("warning", "locked", f"{app} is being worked on by {who}", "It ends by itself.")
        elif one["unfinished"]:
            yield Finding(
                "warning",
                "unfinished",
                f"a run ended while it brought {one['unfinished']} of {app}, and that was not taken back",
                f"`invoke status --app {app}` shows how it is; the next `invoke deploy` takes it back first.",
            )
        if hold is not None:
            why = f"{hold.get('by', 'someone')} holds {app}: {hold.get('why', '')}"
            yield Finding("warning", "held", why, f"`invoke lock.release --app {app}` ends that.")


def boot(wanted: Wanted, seen: Seen) -> Iterator[Finding]:
    """Whether the host takes back by itself what a power cut leaves in the middle."""
    facts = seen.of("boot")
    if not facts or not seen.of("folder").get("there"):
        return  # nothing was ever deployed there: the first one sets it up
    if facts["by"] == "disabled":
        text = "it doesn't recover at boot: somebody has switched that off"
        hint = "`systemctl enable` the unit longshore-recover… on the host, if that isn't meant."
        yield Finding("warning", "boot", text, hint)
    elif facts["by"]:
        yield Finding("good", "boot", f"it recovers at boot by itself ({facts['by']})")
    else:
        text = f"it doesn't recover at boot: {facts['why']}"
        yield Finding("warning", "boot", text, "Until then the next `invoke deploy` does what is left.")
