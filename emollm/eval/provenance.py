"""What produced a result: the code's commit, versions of the libraries that matter, and the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("emollm", "torch", "transformers", "numpy", "scikit-learn")
CHECKOUT = Path(__file__).parents[2]
# What decides a score; a changed note or result beside them does not make a checkout dirty.
CODE = ("emollm", "data", "eval/*.yaml", "pyproject.toml")


def commit() -> tuple[str | None, bool]:
    """Hash of the checkout that the running code lies in, and whether its code differs from that commit.

    (None, False) outside a checkout, also where an installed package merely lies below somebody else's.
    """
    top = _git("rev-parse", "--show-toplevel")
    if top is None or Path(top) != CHECKOUT:
        return None, False
    return _git("rev-parse", "HEAD"), bool(_git("status", "--porcelain", "--", *CODE))


def commit_tag() -> str | None:
    """The commit in short, ``+`` behind it where files differ; None outside a checkout."""
    found, dirty = commit()
    return f"{found[:9]}{'+' if dirty else ''}" if found else None


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, str]:
    """Processor, its cores that this process may use, and the GPU if there is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = {"cpu": _cpu(), "cores": str(cores), "system": f"{platform.system()} {platform.machine()}"}
    import torch

    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or "unknown"


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(CHECKOUT), *arguments], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
