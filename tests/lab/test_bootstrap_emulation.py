"""QEMU from the distribution's packages, on a host without systemd: programs of another architecture run.

The kernel's register of such programs is one for the whole machine. So this is about an architecture that
nobody else here uses, and the register is left as it was.
"""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.lab.conftest import clean
from tests.lab.project import Project

from longshore.lab import Lab

BINFMT = Path("/proc/sys/fs/binfmt_misc")
PURGE = """
apt-get -qy purge qemu-user-static qemu-user qemu-user-binfmt binfmt-support >/dev/null 2>&1
umount /proc/sys/fs/binfmt_misc; rm -rf /var/lib/binfmts
service docker restart  # it remembers what it could run
"""
SAYS = b"it runs\n"


def program() -> bytes:
    """An executable for riscv64 Linux that writes a line (ELF-64 with one segment, no library)."""
    # li a7,64; li a0,1; auipc a1,0; addi a1,a1,28; li a2,8; ecall (write); li a7,93; li a0,0; ecall (exit)
    words = (
        *(0x04000893, 0x00100513, 0x00000597, 0x01C58593, 0x00800613, 0x00000073),
        *(0x05D00893, 0x00000513, 0x00000073),
    )
    code = b"".join(struct.pack("<I", word) for word in words) + SAYS
    start, size = 0x10000, 120 + len(code)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    head = struct.pack("<HHIQQQIHHHHHH", 2, 243, 1, start + 120, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, start, start, size, size, 0x1000)
    return ident + head + segment + code


def image() -> bytes:
    """A root with that program in it, as a tar."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("it")
        member.size, member.mode = len(program()), 0o755
        archive.addfile(member, io.BytesIO(program()))
    return packed.getvalue()


@pytest.fixture
def builder(lab: Lab, tmp_path: Path) -> Iterator[Project]:
    """A project that builds for riscv64 on h3."""
    if (BINFMT / "qemu-riscv64").exists():
        pytest.skip("This machine runs riscv64 programs already.")
    before = {entry.name: entry.read_bytes() for entry in BINFMT.glob("qemu-*")}
    clean(lab, "h3")
    made = Project(tmp_path, lab)
    text = f"""\
all:
  vars:
{made.connection}
    longshore: {{build: {{platforms: [linux/amd64, linux/riscv64]}}}}
  children: {{builders: {{hosts: {{h3: {{ansible_host: {lab.addresses["h3"]}}}}}}}}}
"""
    made.write("inventory/try.yml", text)
    settings = lab.ssh("h3", ["cat", "/etc/docker/daemon.json"]).stdout
    try:
        yield made
    finally:
        for entry in BINFMT.glob("qemu-*"):
            if entry.name not in before:
                entry.write_text("-1")
        clean(lab, "h3")
        lab.ssh("h3", ["tee", "/etc/docker/daemon.json"], stdin=settings)
        lab.ssh("h3", ["sh", "-c", PURGE])
        assert {entry.name: entry.read_bytes() for entry in BINFMT.glob("qemu-*")} == before


def test_a_builder_runs_programs_of_another_architecture_after_bootstrap(builder: Project) -> None:
    done = builder.run("bootstrap", "--env", "try")
    assert done.code == 0, done.all
    assert "install qemu-user-static, binfmt-support, to build for linux/riscv64" in done.out
    assert "have the kernel run programs of linux/riscv64 with QEMU" in done.out
    assert "the kernel isn't told" not in done.all
    build = "docker import --platform linux/riscv64 -c 'CMD [\"/it\"]' - it:1 >/dev/null"
    run = "docker run --rm --network none --platform linux/riscv64 it:1"
    assert builder.lab.ssh("h3", ["sh", "-c", f"{build} && {run}"], stdin=image()).stdout == SAYS.decode()
    assert builder.run("bootstrap", "--env", "try", "--check").code == 0
