"""The program of the child process: llama.cpp's own HTTP server on a free loopback port.

Run as `python -P llama_child.py` by `embedded.py`; so it imports nothing of this package. The first line of stdin is
its config (`Config` as JSON: the key must not show in the process list); the end of stdin means that the parent is
gone, and ends this process, even where the parent was killed with SIGKILL. The first line of stdout is
`{"url", "version"}` once the model is loaded, or `{"error"}`; everything llama.cpp has to say goes to stderr.

Never imported by the daemon: importing it loads llama.cpp.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from typing import NoReturn

import msgspec
import xllamacpp

__all__ = ["Config", "main"]

# prctl(2): the signal this process gets when its parent dies.
PR_SET_PDEATHSIG = 1
# llama.cpp keeps finished prompts in up to 8 GiB of memory by default; MiB.
PROMPT_CACHE = 256


class Config(msgspec.Struct, kw_only=True):
    """What to serve. `context` is in tokens and per slot; `threads` 0: half of the CPUs; `parent` is a pid."""

    model: str
    alias: str
    key: str
    parent: int
    context: int = 4096
    slots: int = 2
    threads: int = 0
    embedding: bool = False
    chat_template: str = ""


def _bind_to_parent(parent: int) -> None:
    """Ask Linux to kill us with the parent: loading a model holds the interpreter, and then no thread sees the pipe."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # It died before we could ask.
        os._exit(0)


def _watch(stdin: int) -> NoReturn:
    while os.read(stdin, 4096):
        pass
    # The server's own threads would hold up an orderly exit, and nothing here needs one.
    os._exit(0)


def _read_line(fd: int) -> bytes:
    """Read one line unbuffered, so that nothing of the pipe is lost to a buffer the watcher does not see."""
    line = bytearray()
    while not line.endswith(b"\n"):
        data = os.read(fd, 1)
        if not data:
            break
        line += data
    return bytes(line)


def _half() -> int:
    """Return half of the CPUs we may use.

    llama.cpp's threads wait for each other spinning: with one for each CPU, anything else that runs holds up all of
    them. On two busy CPUs one thread made 50 tokens a second, two made 10, llama.cpp's own choice made 2.
    """
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, usable // 2)


def _params(config: Config) -> xllamacpp.CommonParams:
    params = xllamacpp.CommonParams()
    params.model.path = config.model
    params.model_alias = {config.alias}
    params.api_keys = [config.key]
    params.port = 0
    params.ui = False
    params.n_parallel = config.slots
    # llama.cpp divides the context among its slots.
    params.n_ctx = config.context * config.slots
    params.cache_ram_mib = PROMPT_CACHE
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = config.threads or _half()
    if config.embedding:
        params.embedding = True
        # An input must fit one physical batch, else it is refused.
        params.n_batch = params.n_ubatch = config.context
    else:
        params.use_jinja = True
        params.chat_template = config.chat_template
        params.reasoning_format = xllamacpp.common_reasoning_format.COMMON_REASONING_FORMAT_DEEPSEEK
    return params


def main() -> None:
    """Serve until stdin ends."""
    # Ctrl-C on the terminal is the parent's to answer: it may still have streams to finish.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Whatever native code prints must not be taken for our one line.
    report = os.dup(1)
    os.dup2(2, 1)
    config = msgspec.json.decode(_read_line(0), type=Config)
    _bind_to_parent(config.parent)
    watcher = threading.Thread(target=_watch, args=(0,), name="parent")
    watcher.start()
    try:
        server = xllamacpp.Server(_params(config))
    except RuntimeError as exc:
        answer = {"error": str(exc)}
    else:
        answer = {"url": server.listening_address, "version": xllamacpp.__version__}
    os.write(report, msgspec.json.encode(answer) + b"\n")
    os.close(report)
    if "error" in answer:
        os._exit(1)
    watcher.join()


if __name__ == "__main__":
    main()
