"""The machine of a training run: ``machine.json`` in its folder, by which the model card says what the run cost."""

from __future__ import annotations

import json
from pathlib import Path

from emollm.eval import provenance

MACHINE = "machine.json"


def note_machine(output: Path, gpu: bool = True) -> None:
    """Write down the machine that a run ends on; without ``gpu`` it left the GPU alone, if there is one."""
    found = provenance.hardware()
    if not gpu:
        found.pop("gpu", None)
    (output / MACHINE).write_text(json.dumps(found, indent=1), encoding="utf-8")
