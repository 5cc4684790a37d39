"""A lab: some disposable hosts and a registry, and the story of how they come and go."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from longshore.errors import Problems
from longshore.lab import containers, network, registry, standins, state
from longshore.lab.backend import Backend, choose, open_backend
from longshore.lab.commands import LabError, run, wait_until
from longshore.lab.content import host_files, learn_host_key, make_key
from longshore.lab.place import Network, Place, host_index
from longshore.lab.state import HostState, LabState
from longshore.lab.wanted import asked_for, refuse_others
from longshore.records import dataclass


@dataclass(frozen=True)
class HostStatus:
    """One host as ``lab.status`` shows it."""

    name: str
    address: str
    port: int
    arch: str
    bare: bool
    on: bool
    cut: bool


def _silent(_: str) -> None:
    """Where progress goes that nobody asked for."""


class LabProblems(Problems, LabError):
    """Several hosts that can't be had, one sentence each."""


class Lab:
    """Practice hosts ``h1`` to ``hN`` by the name of their lab; what they are is kept on disk.

    Two labs with different names don't meet: each has a bridge, a subnet, keys and a registry of its own.
    ``say`` gets a sentence when something takes long. Every method raises ``LabError``.
    """

    def __init__(self, name: str = "default", *, say: Callable[[str], None] = _silent) -> None:
        self.place = Place.of(name)
        self.key = self.place.key
        self.known_hosts = self.place.known_hosts
        self._say = say
        self._file = self.place.home / "lab.json"
        self._saving = threading.Lock()

    # What there is

    @property
    def state(self) -> LabState:
        """What the lab remembers of itself."""
        return state.load(self._file)

    @property
    def addresses(self) -> dict[str, str]:
        """The hosts' names and addresses, in order."""
        return {host.name: host.address for host in self._hosts(self.state)}

    @property
    def registry(self) -> str:
        """The registry's ``address:port``, as hosts reach it."""
        return self._network(self.state).registry

    def status(self) -> list[HostStatus]:
        """Each host as it is now."""
        current = self.state
        if current.number is None:
            return []
        backend = self._backend(current)
        return [
            HostStatus(
                host.name,
                host.address,
                host.port,
                host.arch,
                host.bare,
                on=backend.is_on(host),
                cut=backend.is_cut(host),
            )
            for host in self._hosts(current)
        ]

    # Up and down

    def up(self, hosts: int, *, arch: Mapping[str, str] | None = None, bare: Sequence[str] = ()) -> None:
        """Have the hosts h1 to h``hosts`` running, with sshd and (unless ``bare``) an engine that answers.

        Hosts that run are left alone, hosts that are off are switched on. ``arch`` is by host, ``amd64`` or
        ``arm64``; a host keeps what it was made as, and asking for something else is an error.
        """
        wanted = asked_for(hosts, arch or {}, bare)
        with self._change():
            current = self._claimed()
            backend = self._backend(current)
            refuse_others(wanted, current.hosts, arch or {}, bare)
            off = [one for one in wanted if not backend.is_on(current.hosts.get(one.name, one))]
            if not off:
                return
            backend.prepare(off)
            make_key(self.key)
            for host in off:
                if host.name not in current.hosts:
                    content = host_files(host, self.place, self._network(current))
                    current = current.with_host(backend.create(host, content))
                    state.save(self._file, current)
            self._boot(backend, [current.hosts[host.name] for host in off])

    def down(self, *, purge: bool = False) -> None:
        """Remove every host and all that the lab did to this machine. A lab that isn't there is fine.

        With ``purge`` the cache of all labs (roots, stand-in images) is removed, too.
        """
        with self._change():
            current = self.state
            # Also one that was started by a command that was killed before taking note.
            for process in [current.registry, *registry.running(self.place.home / "registry")]:
                if process is not None:
                    process.kill()
            if current.number is not None:
                backend = self._backend(current)
                with ThreadPoolExecutor(8) as pool:
                    list(pool.map(backend.kill, current.hosts.values()))
                backend.teardown(list(current.hosts))
        shutil.rmtree(self.place.home, ignore_errors=True)
        if purge:
            shutil.rmtree(self.place.cache, ignore_errors=True)
            containers.forget_images()

    def stop(self, host: str) -> None:
        """Take the power from a host: nothing on it gets a chance to end well. Its disk stays."""
        with self._change():
            current = self.state
            one = self._known(host)
            self._backend(current).kill(one)
            state.save(self._file, current.with_host(replace(one, process=None)))

    def start(self, host: str) -> None:
        """Switch a host on again, with its disk, and wait until it answers."""
        with self._change():
            backend = self._backend(self.state)
            one = self._known(host)
            if not backend.is_on(one):
                backend.prepare([one])
                self._boot(backend, [one])

    def cut(self, host: str) -> None:
        """Lose everything to and from a host from now on, silently, as a broken line does."""
        self._backend(self.state).cut(self._running(host))

    def heal(self, host: str) -> None:
        """Connect a host that was cut off."""
        self._backend(self.state).heal(self._running(host))

    def pin(self, host: str, processor: int) -> None:
        """Hold a host to one of this machine's processors (from 0), until it is switched off: then what one
        host does slows no other."""
        self._backend(self.state).pin(self._running(host), processor)

    # Using it

    def ssh_argv(self, host: str, argv: Sequence[str] = (), *, user: str = "root") -> list[str]:
        """The ``ssh`` command line for a host; without ``argv`` a shell."""
        one = self._known(host)
        options = ["-F", "none", "-i", str(self.key), "-p", str(one.port), *shlex.split(self.ssh_options())]
        command = ["--", shlex.join(argv)] if argv else []
        return ["ssh", *options, f"{user}@{one.address}", *command]

    def ssh_options(self) -> str:
        """OpenSSH's options for this lab's host keys, as ``ansible_ssh_common_args`` takes them."""
        known = shlex.quote(f"UserKnownHostsFile={self.known_hosts}")
        return f"-o {known} -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes -o LogLevel=ERROR"

    def ssh(
        self,
        host: str,
        argv: Sequence[str],
        *,
        stdin: str | bytes | None = None,
        check: bool = True,
        timeout: float = 120.0,
        user: str = "root",
    ) -> subprocess.CompletedProcess[str]:
        """Run one command on a host; its words arrive as they are.

        ``timeout`` is in seconds. With ``check`` an exit code other than 0 raises ``LabError``.
        """
        line = self.ssh_argv(host, argv, user=user)
        done = run(
            [*line[:1], "-o", "ConnectTimeout=20", *line[1:]], stdin=stdin, check=False, timeout=timeout
        )
        if check and done.returncode != 0:
            said = (done.stderr or done.stdout).strip()
            raise LabError(f"'{shlex.join(argv)}' ended with {done.returncode}: {said}", where=host)
        return done

    def inventory(self) -> str:
        """An Ansible inventory (YAML) of the hosts."""
        self._network(self.state)
        hosts = {
            host.name: {
                "ansible_host": host.address,
                **({"ansible_port": host.port} if host.port != 22 else {}),
            }
            for host in self._hosts(self.state)
        }
        common = {
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.key),
            "ansible_ssh_common_args": self.ssh_options(),
        }
        # JSON is YAML; writing it needs no library, and no value can be misread.
        lines = [
            "all:",
            "  vars:",
            *(f"    {key}: {json.dumps(value)}" for key, value in common.items()),
            "  hosts:",
        ]
        lines += [f"    {name}: {json.dumps(values)}" for name, values in hosts.items()]
        return "\n".join(lines) + "\n"

    # The registry

    def registry_up(self) -> str:
        """Have the registry running, with the stand-ins that were ever built; returns its address."""
        with self._change():
            current = self._claimed()
            backend = self._backend(current)
            if not (current.registry and current.registry.alive()):
                backend.prepare([])
                if not backend.is_here():
                    raise LabError(
                        "There can't be a registry: the engine's networks aren't on this machine.",
                        hint="Use an engine of this machine (not Docker Desktop, not a rootless one).",
                    )
                home = self.place.home / "registry"
                cached = self.place.cache / "images"
                registry.copy_content(cached, home / "content", registry.repositories(cached))
                binary = registry.program(self.place.cache, self._say)
                address = self._network(current).registry
                process = registry.start(home, address, binary, backend.join_files("registry"))
                state.save(self._file, replace(current, registry=process))
            return self._network(current).registry

    def stand_in(self, images: Sequence[str] = (), *, platforms: Sequence[str] = ("amd64",)) -> list[str]:
        """Have stand-ins for Docker Hub's images in the registry; without names, all there are.

        Those that aren't in the cache are built, which takes minutes once; returns their names. Where
        Docker Hub itself is reached there is nothing to do, and nothing is returned.
        """
        if standins.hub_is_reached():
            self._say("Docker Hub is reached from here: hosts pull the originals.")
            return []
        names = list(images) or list(standins.STAND_INS)
        cached = self.place.cache / "images"
        missing = standins.missing(cached, names, platforms)
        if missing:
            standins.build(cached, missing, self._say)
        self.registry_up()
        repositories = sorted({f"library/{name.partition(':')[0]}" for name in names})
        registry.copy_content(cached, self.place.home / "registry/content", repositories)
        return names

    def registry_possible(self) -> bool:
        """Whether a lab that is up can have one: it listens in the hosts' network, which must be here."""
        return self._backend(self.state).is_here()

    def emulate(self) -> None:
        """Have arm64 programs run on this lab's hosts, for images of both architectures."""
        self._backend(self.state).emulate()

    def registry_on(self) -> bool:
        """Whether the registry runs."""
        process = self.state.registry
        return process is not None and process.alive()

    # Parts

    def _change(self) -> AbstractContextManager[None]:
        return state.locked(self.place.root / f"{self.place.name}.lock")

    def _claimed(self) -> LabState:
        """The state with a network number, chosen when the lab begins."""
        current = self.state
        if current.number is None:
            with state.locked(self.place.root / "networks.lock"):
                taken = [self._number(home) for home in self.place.home.parent.glob("*")]
                number = network.free_number(0 if self.place.name == "default" else 1, taken)
                current = LabState(backend=choose(), number=number)
                state.save(self._file, current)
        return current

    def _number(self, home: Path) -> int | None:
        """The network of the lab in that folder, as far as it can be read."""
        try:
            return state.load(home / self._file.name).number
        except LabError:
            return None

    def _network(self, current: LabState) -> Network:
        if current.number is None:
            raise LabError(f"The lab '{self.place.name}' isn't up.", hint="Start it with 'invoke lab.up'.")
        return Network(current.number)

    def _backend(self, current: LabState) -> Backend:
        return open_backend(current.backend, self.place, self._network(current), self._say)

    def _hosts(self, current: LabState) -> list[HostState]:
        return sorted(current.hosts.values(), key=lambda host: host_index(host.name))

    def _known(self, name: str) -> HostState:
        hosts = self.state.hosts
        if name not in hosts:
            self._network(self.state)
            there = ", ".join(hosts) or "none"
            raise LabError(f"There is no practice host '{name}'; there are: {there}.")
        return hosts[name]

    def _running(self, name: str) -> HostState:
        host = self._known(name)
        if not self._backend(self.state).is_on(host):
            raise LabError(
                "It is switched off.", where=name, hint=f"'invoke lab.start {name}' switches it on."
            )
        return host

    def _boot(self, backend: Backend, hosts: Sequence[HostState]) -> None:
        """Switch hosts on, all at once, and wait until each of them answers."""

        def one(host: HostState) -> HostState | LabError:
            try:
                booted = backend.boot(host)
            except LabError as problem:
                return problem
            with self._saving:
                state.save(self._file, self.state.with_host(booted))
                learn_host_key(self.place, booted)
            return self._unready(booted) or booted

        with ThreadPoolExecutor(8) as pool:
            problems = [result for result in pool.map(one, hosts) if isinstance(result, LabError)]
        if problems:
            raise problems[0] if len(problems) == 1 else LabProblems(problems)

    def _unready(self, host: HostState) -> LabError | None:
        """Wait for sshd and the engine; what is wrong when they don't answer within a minute."""
        question = ["true"] if host.bare else ["docker", "version", "--format", "{{.Server.Version}}"]
        last = ""

        def answers() -> bool:
            nonlocal last
            done = self.ssh(host.name, question, check=False)
            last = (done.stderr or done.stdout).strip()
            return done.returncode == 0

        if wait_until(answers, timeout=60, pause=0.2):
            return None
        return LabError(f"It doesn't answer after 60 s: {last}", where=host.name)
