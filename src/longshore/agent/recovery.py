"""What is done with a switch that nobody works on any more: it is finished, or undone, by the journal.

Who gets an app's lock knows that nobody does: the lock is the kernel's, and goes with the process that had
it. That is the next command, the guardian of an agent that was killed, or the host itself when it comes up
(``main``, started by systemd or cron: :mod:`longshore.agent.boot`).
"""

import os
from typing import Any, Dict, List

from longshore.agent import closing, out, pages
from longshore.agent.boot import Boot
from longshore.agent.engine import Engine, EngineError
from longshore.agent.fail import Refusal, from_os_error
from longshore.agent.journal import Journal
from longshore.agent.lock import Lock
from longshore.agent.store import NAME, AppStore, write
from longshore.agent.switch import Switch

THE_HOST = "the host itself"
_FOR_OTHERS = 600.0
"""Seconds to wait for a lock: what has it recovers before it does anything else."""
_FOR_THE_ENGINE = 600.0
"""Seconds that an engine has to come up with its host: it may have many containers to start."""
_START = """\
import os, sys
from longshore.agent.recovery import main
sys.exit(main(os.path.dirname(os.path.dirname(os.path.abspath(sys.argv[0])))))
"""


def recover(
    switch: Switch, by: str, why: str = "a run before this one ended in the middle"
) -> Dict[str, Any]:
    """Finish or undo what a run before this one left; for whoever has the lock."""
    switch.finish()
    return switch.revert({"by": by, "why": why}, unwell_is_back=True)


def bereaved(state_dir: str, app: str, run: str) -> None:
    """The agent was killed, and had this app's lock: take back what it had begun, when its last Compose has
    ended. Whoever else gets the lock before does the same."""
    store = AppStore(state_dir, app)
    lock = Lock(store.root)
    why = "taking back what an agent had begun that was killed"
    try:
        lock.take({"by": THE_HOST, "run": run, "why": why}, wait=_FOR_OTHERS)
        try:
            recover(Switch(Engine(), store, lambda kind, **facts: None, run), "")
        finally:
            lock.release()
    except (Refusal, EngineError, OSError):
        pass  # the journal still says so: the next one who takes the lock tries again


# At boot


def main(state_dir: str) -> int:
    """Finish or undo everything that this host had begun when it went down, and serve the pages of apps in
    maintenance again. 1 when something is left."""
    os.umask(0o077)
    os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    os.chdir("/")
    for store in _stores(state_dir):
        pages.ensure(store)
    apps = unfinished(state_dir)
    if not apps:
        return 0
    try:
        Engine().wait(_FOR_THE_ENGINE)
    except (Refusal, EngineError) as error:
        _say(f"{', '.join(apps)}: not looked at, for {error}")
        return 1
    done = [_at_boot(AppStore(state_dir, app)) for app in apps]
    return 0 if all(done) else 1


def unfinished(state_dir: str) -> List[str]:
    """The apps whose journal has a switch without an end, that were to be opened after a commit, or that were
    to come back into a load balancer."""
    return [store.app for store in _stores(state_dir) if _is_unfinished(store)]


def _stores(state_dir: str) -> List[AppStore]:
    try:
        names = sorted(os.listdir(state_dir))
    except OSError:
        return []
    stores = [AppStore(state_dir, name) for name in names if NAME.fullmatch(name)]
    return [store for store in stores if os.path.isdir(store.root)]


def _is_unfinished(store: AppStore) -> bool:
    try:
        left_out = out.state_of(store) is not None and not out.by_hand(store)
        return Journal(store.root).unfinished() is not None or bool(closing.note_of(store)) or left_out
    except OSError:  # no folder of an app's
        return False


def _at_boot(store: AppStore) -> bool:
    from longshore.agent.hidden import Hidden

    lock = Lock(store.root)
    why = "finishing or undoing what was begun when the host went down"
    try:
        lock.take({"by": THE_HOST, "why": why}, wait=_FOR_OTHERS)
        try:
            # Looked at again: somebody else may have been faster.
            how = _in_order(store, Journal(store.root).unfinished() or {})
        finally:
            lock.release()
    except Exception as error:  # a defect of ours in one app must not keep the others from being looked at
        known = isinstance(error, (Refusal, EngineError))
        told = (
            from_os_error(error).message
            if isinstance(error, OSError)
            else str(error)
            if known
            else repr(error)
        )
        _say(f"{store.app}: {Hidden(os.path.dirname(store.root)).masks(store.app).text(told)}")
        return False
    _say(f"{store.app}: {Hidden(os.path.dirname(store.root)).masks(store.app).text(how)}")
    return True


def _in_order(store: AppStore, begun: Dict[str, Any]) -> str:
    """Keep what was switched to, where it is to be and is good; else finish or undo it."""
    switch = Switch(Engine(), store, lambda kind, **facts: None, str(begun.get("run", "")))
    if begun and store.current() != begun["to"] and (_to_be_kept(begun) or _was_to_commit(store, begun)):
        facts = {"by": begun.get("by", ""), "git": begun.get("git", "")}
        try:
            switch.keep(begun["to"], facts, "the host lost its power after the switch; the release is good")
            return f"keeps {begun['to']}, to which it had switched"
        except (Refusal, EngineError, OSError):
            pass  # not good: it goes back
    done = recover(switch, THE_HOST, "the host went down in the middle of it")
    if closing.sealed(store):
        # The engine has started again what is to be always there, on a schema that may not be its own.
        closing.stop(switch.engine, store, switch.emit)
        return "stays closed, for the schema may be the new one's: a person decides"
    if not done["reverted"]:
        return f"runs {done['release'] or 'nothing'}, as it was committed"
    trouble = f", but: {done['trouble']}" if done.get("trouble") else ""
    return f"went back from {begun['to']} to {done['release'] or 'nothing'}{trouble}"


def _to_be_kept(begun: Dict[str, Any]) -> bool:
    """``--on-lost-controller keep``, and all of the release had been started."""
    return bool(begun.get("keep") and begun.get("switched"))


def _was_to_commit(store: AppStore, begun: Dict[str, Any]) -> bool:
    """The controller had said that the release is good everywhere, and this host was writing that down: the
    others have it by now, and keep it."""
    written = store.committed(begun["to"])
    return written is not None and bool(begun.get("run")) and written.get("run") == begun["run"]


def _say(text: str) -> None:
    """For systemd's journal, or for whom cron writes to."""
    print(f"longshore: {text}", flush=True)


# Putting it in place


def settle(state_dir: str, version: str, wanted: bool) -> None:
    """Have the host recover at boot, or not (``recover_at_boot``), before anything is begun on it.

    ``version`` is this agent's hash. When all is as it should be, which it is but for the first time, this
    costs three looks at files. It never fails: a host without it recovers with the next command.
    """
    try:
        _settle(Boot(state_dir), version, wanted)
    except (OSError, Refusal):
        pass


def _settle(boot: Boot, version: str, wanted: bool) -> None:
    fresh = _is_of(boot.program, version)
    if wanted and not fresh:
        write(boot.program, packed(version))
    if os.geteuid() == 0:
        boot.install(write) if wanted else boot.remove()
    elif wanted and not fresh and not boot.found().by:
        boot.into_crontab()
    elif not wanted and os.path.exists(boot.program):
        boot.out_of_crontab()
    if not wanted and os.path.exists(boot.program):
        os.unlink(boot.program)


def _is_of(path: str, version: str) -> bool:
    """Whether the program there was made of the agent with this hash, which ends it."""
    end = version.encode()
    try:
        with open(path, "rb") as file:
            file.seek(-len(end), os.SEEK_END)
            return file.read() == end
    except OSError:
        return False


def packed(version: str) -> bytes:
    """This agent as one file that Python runs (zipapp), with its hash as the archive's comment."""
    import io
    import zipfile

    folder = os.path.dirname(os.path.abspath(__file__))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__main__.py", _START)
        archive.writestr("longshore/__init__.py", "")
        for name in sorted(os.listdir(folder)):
            if name.endswith(".py"):
                archive.write(os.path.join(folder, name), f"longshore/agent/{name}")
        archive.comment = version.encode()
    return buffer.getvalue()
