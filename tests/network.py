"""Watches what a program sends: `strace` sees the system calls of native code and of child processes too."""

import os
import re
import shutil
import subprocess
from ipaddress import ip_address
from pathlib import Path

import pytest

ADDRESS = re.compile(r'sin6?_port=htons\((\d+)\).*?"([^"]+)"')
NAME_SERVICES = re.compile(r'sun_path="[^"]*(systemd/resolve|avahi)')

ENVIRONMENT = ("PATH", "PYTHONPATH", "OMP_NUM_THREADS")
"""What a watched program inherits: nothing by which ONNX Runtime would recognize CI, where it sends nothing."""


def traced(home: Path, *command: str | Path) -> str:
    """Run a program in its own home folder; returns its connections and the messages that it sent."""
    if shutil.which("strace") is None:
        if os.environ.get("CI"):
            pytest.fail("strace is not installed, and CI may not skip the tests of the network")
        pytest.skip("strace is not installed")
    trace = home / "trace"
    watch = ["strace", "-f", "--seccomp-bpf", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", trace]
    done = subprocess.run(
        [*watch, *command],
        env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ} | {"HOME": str(home)},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return trace.read_text()


def to_others(trace: str) -> list[str]:
    """The system calls that reach another machine or a name service."""
    return [
        call
        for call in trace.splitlines()
        if NAME_SERVICES.search(call)
        or ((to := ADDRESS.search(call)) and (to[1] == "53" or not ip_address(to[2]).is_loopback))
    ]


def identifiers(home: Path) -> list[Path]:
    """Files by which ONNX Runtime and OpenVINO recognize a user."""
    return [file for file in home.rglob("*") if re.fullmatch("intel|microsoft|deviceid|.*_ga_cid", file.name, re.I)]
