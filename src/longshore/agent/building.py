"""Building images on this host with ``docker buildx``: contexts in, lines out, digests at the end.

Secrets and logins are files in a folder of the session, never arguments; they go with it.
"""

import json
import os
import queue
import re
import signal
import subprocess
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

from longshore.agent import preflight, wire
from longshore.agent.contexts import image_in, unpack
from longshore.agent.dockerconfig import buildx_config, environment_of, theirs_of_buildx, write
from longshore.agent.engine import Engine
from longshore.agent.fail import Refusal
from longshore.agent.health import Emit
from longshore.agent.present import has_containerd_store
from longshore.agent.shorten import first
from longshore.agent.work import Work

_PAUSE = 0.2
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_RACED = re.compile(r"ERROR:.* parent snapshot \S+ does not exist")
"""containerd removes an image that has lost its tag while the next one is put on its layers (moby/buildkit
6521). Everything is in the cache: a second run takes a second."""
# What docker itself reads from its environment: an argument of that name must not change it.
_READ_BY_DOCKER = re.compile(r"(?i)(PATH|HOME|USER|TMPDIR|SSL_.*|LD_.*|GO.*|DOCKER_.*|BUILD.*|.*_PROXY)")


def builder(engine: Engine, state_dir: str, name: str = "") -> Dict[str, Any]:
    """What this host can build: ``architecture``, ``platforms``, ``cores``, ``containerd``, ``driver``,
    versions. ``name`` is a builder of buildx that a person has made; without one it is the engine itself.

    Raises ``Refusal`` without an engine or buildx, or without that builder.
    """
    info = engine.info()
    version = engine.version()
    environment = {**os.environ, "BUILDX_CONFIG": theirs_of_buildx() if name else buildx_config(state_dir)}
    buildx = _said(["docker", "buildx", "version"], environment)
    if buildx is None:
        raise Refusal(
            wire.NO_ENGINE,
            "docker buildx is not installed on this host",
            "Run `invoke bootstrap`, or install the package docker-buildx (docker-buildx-plugin).",
        )
    told = _said(["docker", "buildx", "inspect", *(["--bootstrap", name] if name else [])], environment)
    if told is None and name:
        raise Refusal(
            wire.NO_BUILDKIT,
            f"docker buildx has no builder {name} here, or it doesn't start",
            f"`docker buildx inspect --bootstrap {name}` on this host, as {_user()}, says more.",
        )
    told = told or ""
    driver = re.search(r"^Driver:\s*(\S+)", told, re.M)
    own = "linux/" + (version.get("Arch") or preflight.architecture(info.get("Architecture", "")))
    found = re.search(r"\bv?(\d+\.\d+\.\d+)", buildx)
    return {
        "architecture": own.split("/")[1],
        "platforms": sorted({own, *platforms_in(told)}),
        "cores": int(info.get("NCPU") or os.cpu_count() or 1),
        "containerd": has_containerd_store(info),
        "driver": driver.group(1) if driver else "docker",
        "engine": version.get("Version", ""),
        "buildx": found.group(1) if found else buildx.strip(),
        "free": preflight.free_bytes(_existing(info.get("DockerRootDir", ""))),
    }


def platforms_in(told: str) -> Set[str]:
    """What ``docker buildx inspect`` says that a builder can run, of all its nodes."""
    lines = re.findall(r"^Platforms:[ \t]*(\S.*)$", told, re.M)
    return {one.strip().rstrip("*") for line in lines for one in line.split(",") if one.strip()}


def _existing(folder: str) -> str:
    return folder if os.path.isdir(folder) else "/"


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def buildkit(args: Dict[str, Any], work: Work, state_dir: str) -> Dict[str, Any]:
    """Have a BuildKit of ours run in a container: see :func:`longshore.agent.buildkit.ensure`."""
    from longshore.agent.buildkit import ensure  # late: few engines need it

    environment = environment_of(work, state_dir, args.get("auths") or {})
    return ensure(args, environment, buildx_config(state_dir))


def _said(argv: List[str], environment: Dict[str, str]) -> Optional[str]:
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True,
            env=environment, timeout=60, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def build(
    args: Dict[str, Any], work: Work, state_dir: str, emit: Emit, gone: Callable[[], bool]
) -> Dict[str, Dict[str, Any]]:
    """Run ``args["builds"]``, ``args["parallel"]`` at once; ``args["auths"]`` are logins.

    Each has ``name``, ``context`` (a tar that was put), ``dockerfile`` (its text) and what ``_command``
    takes. One whose ``output`` is ``context`` is there for others of this session: they have it in ``images``
    (context to name). What is in ``after`` stands before it, and is built first. Lines come as events
    ``build`` (``name``, ``lines``), and when it has ended and others have not, ``code`` and ``seconds``.
    Gives by name: ``code`` (0 is good), ``digest``, ``seconds``, ``tags``, and ``lacks`` (the name) where one
    before it could not be built. When the controller goes, all of it is ended.
    """
    environment = environment_of(work, state_dir, args.get("auths") or {})
    if args.get("theirs"):
        environment["BUILDX_CONFIG"] = theirs_of_buildx()
    builds = list(args["builds"])
    _check_order(builds)
    for one in builds:
        for name in [one["context"], *(one.get("folders") or {}).values()]:
            if name not in work.unpacked:
                work.unpacked[name] = unpack(work, name)
    said: queue.Queue[Tuple[str, str]] = queue.Queue()
    results: Dict[str, Dict[str, Any]] = {}
    running: Set[subprocess.Popen[bytes]] = set()
    todo = builds[:]
    lock = threading.Condition()
    ended: Set[str] = set()

    def ready() -> Optional[Dict[str, Any]]:
        """The first for which all is there."""
        return next((one for one in todo if all(name in results for name in one.get("after") or [])), None)

    def worker() -> None:
        while True:
            with lock:
                # One that waits comes after what it waits for, so somebody is at work on that.
                lock.wait_for(lambda: not todo or ready() is not None)
                one = ready()
                if one is None:
                    return
                todo.remove(one)
            result: Dict[str, Any] = {"code": 125, "digest": "", "seconds": 0.0, "tags": []}
            lacks = next((name for name in one.get("after") or [] if results[name]["code"] != 0), "")
            try:
                result = (
                    {**result, "lacks": lacks} if lacks else _one(one, work, environment, said, running, lock)
                )
            except (OSError, Refusal) as error:
                said.put((one["name"], f"ERROR: {error}"))
            with lock:
                results[one["name"]] = result
                lock.notify_all()

    count = max(1, min(int(args.get("parallel") or 1), len(builds)))
    threads = [threading.Thread(target=worker, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) or not said.empty():
        if gone():
            with lock:
                todo.clear()
                lock.notify_all()
                for process in running:
                    _end(process)
            break
        _tell(said, emit)
        if said.empty():
            for name in [name for name in results if name not in ended]:
                ended.add(name)
                emit(
                    "build", name=name, lines=[], code=results[name]["code"], seconds=results[name]["seconds"]
                )
    for thread in threads:
        thread.join(10)
    return results


def _check_order(builds: List[Dict[str, Any]]) -> None:
    """Raise ``Refusal`` for a build that would wait for one that comes later, or never."""
    earlier: Set[str] = set()
    for one in builds:
        unknown = set(one.get("after") or []) - earlier
        if unknown:
            raise Refusal(
                wire.BAD_REQUEST, f"{one['name']} is to be built after {', '.join(sorted(unknown))}"
            )
        earlier.add(one["name"])


def _tell(said: queue.Queue[Tuple[str, str]], emit: Emit) -> None:
    """Hand on what has been said within a moment, in as few lines as may be."""
    until = time.monotonic() + _PAUSE
    lines: Dict[str, List[str]] = {}
    while time.monotonic() < until:
        try:
            name, line = said.get(timeout=max(0.01, until - time.monotonic()))
        except queue.Empty:
            break
        lines.setdefault(name, []).append(line)
    for name, some in lines.items():
        emit("build", name=name, lines=some)


def _one(
    one: Dict[str, Any],
    work: Work,
    environment: Dict[str, str],
    said: queue.Queue[Tuple[str, str]],
    running: Set[subprocess.Popen[bytes]],
    lock: threading.Condition,
) -> Dict[str, Any]:
    with lock:
        number = work.builds = work.builds + 1
    folder = os.path.join(work.folder, f"build-{number}")
    os.makedirs(folder, mode=0o700)
    metadata = os.path.join(folder, "metadata.json")
    secrets = os.path.join(work.private, f"secrets-{number}")
    images = {name: work.images[built] for name, built in (one.get("images") or {}).items()}
    one = {**one, "contexts": {**(one.get("contexts") or {}), **images}}
    argv, more = _command(one, work.unpacked, folder, secrets, metadata)
    started = time.monotonic()
    code, raced = _run(one["name"], argv, {**environment, **more}, folder, said, running, lock)
    if code != 0 and raced:
        said.put((one["name"], wire.BUILD_AGAIN))
        code, _ = _run(one["name"], argv, {**environment, **more}, folder, said, running, lock)
    found: Dict[str, Any] = {}
    if code == 0 and os.path.exists(metadata):
        with open(metadata, encoding="utf-8") as file:
            found = json.load(file)
    digest = str(found.get("containerimage.digest") or "")
    if code == 0 and one.get("output") == "context":
        work.images[one["name"]] = image_in(os.path.join(folder, "oci"))
    return {
        "code": code,
        "digest": digest if _DIGEST.fullmatch(digest) else "",
        "seconds": round(time.monotonic() - started, 3),
        "tags": one.get("tags") or [],
        "folder": os.path.join(folder, "oci"),
    }


def _run(
    name: str,
    argv: List[str],
    environment: Dict[str, str],
    folder: str,
    said: queue.Queue[Tuple[str, str]],
    running: Set[subprocess.Popen[bytes]],
    lock: threading.Condition,
) -> Tuple[int, bool]:
    """Run a build, and tell how it ended, and whether the engine's clean-up came in its way."""
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=environment, cwd=folder, start_new_session=True,
    )  # fmt: skip
    with lock:
        running.add(process)
    assert process.stdout is not None
    raced = False
    for raw in process.stdout:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        raced = raced or bool(_RACED.search(line))
        said.put((name, first(line, 4000)))
    code = process.wait()
    with lock:
        running.discard(process)
    return code, raced


def _command(
    one: Dict[str, Any], contexts: Dict[str, str], folder: str, secrets: str, metadata: str
) -> Tuple[List[str], Dict[str, str]]:
    """The command line, and what its environment has for it. ``contexts``: where what was put is."""
    dockerfile = os.path.join(folder, "Dockerfile")
    write(dockerfile, one["dockerfile"])
    # What is to be left out was left out on the controller. A file in the context must not do it again,
    # by other rules, and one beside the Dockerfile wins over it.
    write(dockerfile + ".dockerignore", "")
    argv = ["docker", "buildx", "build", "--progress=plain", f"--file={dockerfile}"]
    argv += [f"--metadata-file={metadata}", f"--provenance={one.get('provenance') or 'false'}"]
    if one.get("builder"):
        argv.append(f"--builder={one['builder']}")
    if one.get("sbom"):
        argv.append("--sbom=true")
    if one.get("platforms"):
        argv.append("--platform=" + ",".join(one["platforms"]))
    for option in ("target", "network", "shm-size"):
        if one.get(option):
            argv.append(f"--{option}={one[option]}")
    more: Dict[str, str] = {}
    for name, value in sorted((one.get("args") or {}).items()):
        if _READ_BY_DOCKER.fullmatch(name):
            argv.append(f"--build-arg={name}={value}")
        else:
            argv.append(f"--build-arg={name}")  # its value is in the environment: others can't read that
            more[name] = value
    for name, value in sorted((one.get("labels") or {}).items()):
        argv.append(f"--label={name}={value}")
    for option, key in (("add-host", "hosts"), ("ulimit", "ulimits"), ("allow", "allow"), ("ssh", "ssh")):
        argv += [f"--{option}={value}" for value in one.get(key) or []]
    if one.get("ssh") and os.environ.get("SSH_AUTH_SOCK"):
        more["SSH_AUTH_SOCK"] = os.environ["SSH_AUTH_SOCK"]
    for name, put in sorted((one.get("folders") or {}).items()):
        argv.append(f"--build-context={name}={contexts[put]}")
    for name, ref in sorted((one.get("contexts") or {}).items()):
        argv.append(f"--build-context={name}={ref}")
    if one.get("secrets"):
        os.makedirs(secrets, mode=0o700, exist_ok=True)
    for number, (name, value) in enumerate(sorted((one.get("secrets") or {}).items())):
        path = os.path.join(secrets, str(number))
        write(path, value)
        argv.append(f"--secret=id={name},src={path}")
    for ref in one.get("cache_from") or []:
        argv.append(f"--cache-from={ref}")
    for ref in one.get("cache_to") or []:
        argv.append(f"--cache-to={ref}")
    if one.get("pull"):
        argv.append("--pull")
    if one.get("no_cache"):
        argv.append("--no-cache")
    output = one.get("output") or "cache"
    if output == "push":
        argv.append("--push")
    elif output in ("oci", "context"):
        argv.append(f"--output=type=oci,dest={os.path.join(folder, 'oci')},tar=false")
    elif output == "image" and not one.get("builder"):
        argv.append("--output=type=image")
    elif output == "image" and len(one.get("platforms") or []) < 2:
        argv.append("--load")
    else:
        argv.append("--output=type=cacheonly")
    if output in ("push", "image"):
        argv += [f"--tag={tag}" for tag in one.get("tags") or []]
    return [*argv, contexts[one["context"]]], more


def _end(process: "subprocess.Popen[bytes]") -> None:
    try:
        os.killpg(process.pid, signal.SIGTERM)
    except OSError:
        pass
