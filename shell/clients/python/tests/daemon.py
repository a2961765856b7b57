"""The real daemon under test: started, killed, and started again on the same port and data."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[4]
BINARY = Path(os.environ.get("RUNCAST_BIN", ROOT / "target" / "debug" / "runcast")).absolute()
PATIENCE = 30.0


class Daemon:
    """`runcast serve --dev` in a directory of its own."""

    def __init__(self, *settings: str) -> None:
        if not BINARY.exists():
            raise FileNotFoundError(f"{BINARY}: build it (cargo build -p runcast) or set RUNCAST_BIN")
        self._directory = tempfile.TemporaryDirectory()
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"ws://127.0.0.1:{self.port}"
        self.start()

    @property
    def data(self) -> Path:
        """Its data directory."""
        return Path(self._directory.name)

    def start(self) -> None:
        """Starts it and returns when it is ready."""
        sets = [word for setting in self._settings for word in ("--set", setting)]
        address = f"127.0.0.1:{self.port}"
        command = [str(BINARY), "serve", "--dev", "--listen", address, "--data", str(self.data), *sets]
        with (self.data / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.data)
        until = time.monotonic() + PATIENCE
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the daemon does not start:\n{(self.data / 'log').read_text()}")
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        """Kills it with SIGKILL, wherever it is."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Kills it for good."""
        self.kill()
        self._directory.cleanup()

    def token(self, user: str, *scopes: str, ttl: str = "1h") -> str:
        """A token of the development secret."""
        words = [word for scope in scopes for word in ("--scope", scope)]
        command = [str(BINARY), "token", "--user", user, "--ttl", ttl, "--data", str(self.data), *words]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found = re.search(r"\S+\.\S+\.\S+", printed)
        assert found is not None, printed
        return found.group()
