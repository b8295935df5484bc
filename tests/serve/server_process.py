"""A server in a process of its own, as an operator starts it."""

import os
import queue
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil

KEY = "test-key"
START_S = 600  # a busy machine; a free one takes half a minute
_ADDRESS = re.compile(r"http://\S+?:[0-9]+(?=[ .])")


class ServerProcess:
    """``emollm serve`` on a free port, with one API key. Ready when made."""

    def __init__(self, folder: Path, model: Path, *changes: str):
        keys = folder / "keys.txt"
        keys.write_text(f"# for the tests\n{KEY}\n")
        self.log = folder / "log.jsonl"
        command = [sys.executable, "-m", "emollm", "serve", "--model", str(model), "--port", "0"]
        command += ["--api-keys", str(keys), "engine.max_model_len=2048", "name=tiny", *changes]
        environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1"}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment, start_new_session=True
            )
        self.said: list[str] = []
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.address = self._wait()

    def _read(self) -> None:
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _wait(self) -> str:
        while len(self.said) < 2:
            try:
                line = self._lines.get(timeout=START_S)
            except queue.Empty:
                line = ""
            if not line:
                self.end()
                raise AssertionError(f"The server did not start: {self.log.read_text()[-3000:]}")
            self.said.append(line)
        return _ADDRESS.search(self.said[0])[0]

    @property
    def engines(self) -> list[psutil.Process]:
        """The processes that vLLM's engine runs in."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if "VLLM" in " ".join(child.cmdline())]

    def end(self) -> int:
        """Stop the server, by force if it does not listen; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(120)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            return self.process.wait()
