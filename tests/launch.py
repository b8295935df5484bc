"""Training modules in several processes, as torchrun (or `accelerate launch` on GPUs) starts them."""

import os
import subprocess
import sys
from pathlib import Path

import yaml


def in_two_processes(module: str, recipe: dict, folder: Path) -> None:
    """Run ``python -m module RECIPE`` in two processes on the CPU, to its end."""
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    alone = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "1"}
    done = subprocess.run(
        [*launch, "-m", module, str(file)], env=os.environ | alone, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
