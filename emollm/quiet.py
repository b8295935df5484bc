"""Keeps what libraries print for their own developers off the screen of whoever uses the command line."""

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_SETTINGS = {
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "GLOG_minloglevel": "3",
}


def _interrupt_again(unraisable: "sys.UnraisableHookArgs") -> None:
    """Keep a Ctrl-C that arrives inside a finaliser or a callback, where Python would print it and go on."""
    if unraisable.exc_type is KeyboardInterrupt:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()  # at once it would be lost in here again


@contextmanager
def quiet() -> Iterator[None]:
    """Let only EmoLLM speak: settings and warnings first, then the stream itself.

    C++ code (MediaPipe, TensorFlow Lite, FFmpeg) writes to file descriptor 2, which leads nowhere meanwhile;
    `sys.stderr` keeps the way to the screen. Of log records, those of EmoLLM get through, as plain sentences.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    screen, before = os.dup(2), sys.stderr
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    os.close(sink)
    sys.stderr = os.fdopen(
        screen, "w", buffering=1, encoding=before.encoding, errors="backslashreplace", closefd=False
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(logging.Filter("emollm"))
    logging.getLogger().addHandler(handler)
    hook, sys.unraisablehook = sys.unraisablehook, _interrupt_again
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.unraisablehook = hook
        logging.getLogger().removeHandler(handler)
        sys.stderr.close()
        sys.stderr = before
        os.dup2(screen, 2)
        os.close(screen)
