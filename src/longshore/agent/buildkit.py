"""A BuildKit of ours in a container, for engines whose own can't build for several platforms at once.

That are those with the older image store: they hold an image of one platform, and can't export a build cache.
The container is made and kept by buildx (driver ``docker-container``), whose settings are a file: it doesn't
see those of the engine. Source of the keys: BuildKit's docs/buildkitd.toml.md.
"""

import hashlib
import json
import os
import re
import subprocess
from typing import Any, Dict, List, Tuple

from longshore.agent import wire
from longshore.agent.building import platforms_in
from longshore.agent.fail import Refusal
from longshore.agent.shorten import first

NAME = "longshore"
_SECONDS = 600
"""For pulling its image and starting it."""


def ensure(args: Dict[str, Any], environment: Dict[str, str], folder: str) -> Dict[str, Any]:
    """Have the builder run, made as ``args`` say: ``image``; ``registries``, each with ``name`` and where so
    ``insecure``, ``mirror``, ``ca`` (PEM); ``allow``, entitlements. Gives ``name`` and ``platforms``.

    ``folder`` is where buildx keeps its notes. One that is there and was made otherwise is made anew; its
    cache stays. Raises ``Refusal`` when its image can't be had or it doesn't start.
    """
    files = settings(args, folder)
    allow = sorted(args.get("allow") or [])
    said = json.dumps([args["image"], files, allow], sort_keys=True)
    made = os.path.join(folder, f"{NAME}.made")
    key = hashlib.sha256(said.encode()).hexdigest()
    code, told = _run(["inspect", "--bootstrap", NAME], environment)
    if code != 0 or _read(made) != key:
        _run(["rm", "--keep-state", NAME], environment)
        for path, text in files.items():
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        words = create(args["image"], f"{_option(environment)}={next(iter(files))}", allow)
        code, told = _run(words, environment)
        if code == 0:
            code, told = _run(["inspect", "--bootstrap", NAME], environment)
        if code != 0:
            _run(["rm", "--keep-state", NAME], environment)
            raise _refused(str(args["image"]), told)
        with open(made, "w", encoding="utf-8") as file:
            file.write(key)
    return {"name": NAME, "platforms": sorted(platforms_in(told))}


def settings(args: Dict[str, Any], folder: str) -> Dict[str, str]:
    """Path to text: ``buildkitd.toml`` first, and the certificates that it names."""
    certificates: Dict[str, str] = {}
    lines: List[str] = []
    plain = set()
    for one in sorted(args.get("registries") or [], key=lambda one: str(one["name"])):
        mirror = str(one.get("mirror") or "").partition("://")[2] or str(one.get("mirror") or "")
        asked = mirror.rstrip("/") or str(one["name"])
        rows = [f"mirrors = {json.dumps([mirror.rstrip('/')])}"] if mirror else []
        if one.get("ca"):
            path = os.path.join(folder, "certificates", re.sub(r"[^A-Za-z0-9.-]", "_", asked) + ".pem")
            certificates[path] = str(one["ca"])
        if mirror:
            lines += [f"[registry.{json.dumps(str(one['name']))}]", *rows]
        rows = ["http = true", "insecure = true"] if one.get("insecure") else []
        rows += [f"ca = {json.dumps([path])}"] if one.get("ca") else []
        if rows and asked not in plain:
            plain.add(asked)  # a mirror of one may be a registry of its own, too
            lines += [f"[registry.{json.dumps(asked)}]", *rows]
    return {os.path.join(folder, "buildkitd.toml"): "".join(f"{line}\n" for line in lines), **certificates}


def create(image: str, config: str, allow: List[str]) -> List[str]:
    """The words after ``docker buildx`` that make it. ``config`` is a whole option."""
    words = ["create", f"--name={NAME}", "--driver=docker-container", f"--driver-opt=image={image}", config]
    if allow:
        # Not in its file: buildx gives it such a flag of its own, and that wins.
        words.append("--buildkitd-flags=" + " ".join(f"--allow-insecure-entitlement={one}" for one in allow))
    return words


def _option(environment: Dict[str, str]) -> str:
    """``--config`` is called ``--buildkitd-config`` since buildx 0.14."""
    _, told = _run(["create", "--help"], environment)
    return "--buildkitd-config" if "--buildkitd-config" in told else "--config"


def _run(words: List[str], environment: Dict[str, str]) -> Tuple[int, str]:
    try:
        done = subprocess.run(
            ["docker", "buildx", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env=environment, timeout=_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return 124, f"it took longer than {_SECONDS} s"
    return done.returncode, done.stdout.decode("utf-8", "replace")


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _refused(image: str, told: str) -> Refusal:
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    why = (errors or lines or ["buildx didn't say why"])[-1].partition("ERROR: ")
    return Refusal(
        wire.NO_BUILDKIT,
        f"a BuildKit container ({image}) can't be started here: {first(why[2] or why[0], 300)}",
        "Name another image (longshore: build: buildkit: IMAGE) or a builder of yours (build: buildx: NAME).",
        {"service": "docker buildx", "log": lines[-10:]},
    )
