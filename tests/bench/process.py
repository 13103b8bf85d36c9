"""Processes under measurement: started on a free port, watched through the operating system, ended by us."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Process:
    """A child that listens on `port`. Use it as a context."""

    def __init__(self, *args: str, port: int, env: dict[str, str] | None = None) -> None:
        self.port = port
        self._args = args
        self._env = {**os.environ, **(env or {})}
        self.start_seconds = 0.0

    def __enter__(self) -> Self:
        start = time.perf_counter()
        self._child = subprocess.Popen(
            [sys.executable, *self._args], env=self._env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while time.perf_counter() - start < 30:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                if self._child.poll() is not None:
                    raise RuntimeError(f"{self._args} ended at once with {self._child.returncode}") from None
                time.sleep(0.005)
            else:
                self.start_seconds = time.perf_counter() - start
                return self
        raise RuntimeError(f"{self._args} did not listen within 30 s")

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.terminate()
        try:
            self._child.wait(10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    @property
    def pid(self) -> int:
        return self._child.pid

    def cpu(self) -> float:
        """Return the processor seconds used so far (Linux: /proc; elsewhere ps)."""
        stat = Path(f"/proc/{self._child.pid}/stat")
        if stat.exists():
            fields = stat.read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / TICK
        out = subprocess.run(["ps", "-o", "time=", "-p", str(self._child.pid)], capture_output=True, text=True).stdout
        seconds = 0.0
        for part in out.strip().split(":"):
            seconds = seconds * 60 + float(part)
        return seconds

    def rss(self) -> float:
        """Return the resident memory in MB."""
        out = subprocess.run(["ps", "-o", "rss=", "-p", str(self._child.pid)], capture_output=True, text=True).stdout
        return int(out) / 1024
