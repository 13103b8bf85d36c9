"""A real Redis or Valkey server on a socket of its own, where its binary is found; nothing of it is left on disk."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

BINARIES = ("redis-server", "valkey-server")
# Starting takes some 20 ms; a machine under load may need more.
PATIENCE = 10.0


class RedisServer:
    """One server. `start` and `stop` may be called again; what it knew is gone each time."""

    def __init__(self) -> None:
        binary = next(filter(None, map(shutil.which, BINARIES)), None)
        if binary is None:
            pytest.skip(f"needs {' or '.join(BINARIES)} in PATH")
        self._binary = binary
        # Paths of sockets are short (108 bytes on Linux), shorter than those of pytest's folders.
        self._folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self._socket = self._folder / "s"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self._socket}"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [self._binary, "--port", "0", "--unixsocket", str(self._socket), "--save", "", "--appendonly", "no"],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + PATIENCE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{self._binary} did not start")
            time.sleep(0.01)

    def command(self, *words: str) -> bytes:
        """Send one command without waiting in any event loop; return the first bytes of what it answers."""
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(PATIENCE)
            link.connect(str(self._socket))
            parts = [word.encode() for word in words]
            link.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
            return link.recv(65536)

    def stop(self) -> None:
        """Kill it: no goodbye, as when a machine goes down."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self._socket.unlink(missing_ok=True)

    def pause(self) -> None:
        """Let it fall silent: it still takes connections, and answers nothing until `resume`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    def _answers(self) -> bool:
        try:
            return self.command("PING").startswith(b"+PONG")
        except OSError:
            return False
