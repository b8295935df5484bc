"""The files of ``emollm analyze --out``: report.json, action_units.csv, timeline.png.

action_units.csv holds one row per timeline window and person, under the column names of OpenFace 2
(https://github.com/TadasBaltrusaitis/OpenFace/wiki/Output-Format): ``AU12_r`` is the intensity on 0-5, ``AU12_c`` is 1
where that is at least 1. All of OpenFace's AU columns are there, so tools that ask for them by name work (py-feat's
``read_openface`` among them); AU23 and AU28, which EmoLLM does not measure, stay empty, and AU24 is added. ``frame``
counts windows from 1, ``timestamp`` is the window's start in seconds, ``face_id`` is the person's id in the report.
The columns after them carry py-feat's emotion names (plus contempt), 1 for the window's most likely expression and 0
for the rest, so its ``read_feat`` finds ``.emotions`` too.
"""

import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from emollm.emotions import EXPRESSIONS
from emollm.errors import BadArgumentError
from emollm.facs import ACTION_UNITS
from emollm.report import EmotionReport
from emollm.timeline import PRESENT, Faces, draw_timeline

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

OPENFACE_ONLY = {"AU23", "AU28"}  # AU28 has no _r column in OpenFace


def write_outputs(report: EmotionReport, folder: Path, faces: Faces) -> None:
    """Write the three files into ``folder``, which is made if needed. Each file is whole or not there at all.

    faces: per person id, (time in seconds, (112, 112, 3) uint8 RGB crop) in order of time.
    Raises BadArgumentError if the folder cannot be written.
    """
    json = report.model_dump_json(indent=2)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "report.json", lambda part: part.write_text(json, encoding="utf-8"))
        _write(folder / "action_units.csv", lambda part: action_unit_table(report).to_csv(part, index=False))
        _write(folder / "timeline.png", lambda part: _save(draw_timeline(report, faces), part))
    except OSError as error:
        raise BadArgumentError(f"The output folder {folder} cannot be written ({error.strerror or error}).") from error


def _write(path: Path, produce: Callable[[Path], object]) -> None:
    """Let ``produce`` write a hidden file beside ``path``, then put it in place in one step."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        produce(part)
        part.chmod(0o644)  # mkstemp's file is for its owner only
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _save(figure: "Figure", path: Path) -> None:
    with warnings.catch_warnings():  # letters that matplotlib's own font lacks are drawn as boxes, without a word
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(path, format="png")


def action_unit_table(report: EmotionReport) -> "pd.DataFrame":
    """The rows of action_units.csv, by time then person; empty cells (NaN) are unmeasured. See the module's text."""
    import pandas as pd

    codes = sorted({unit.code for unit in ACTION_UNITS} | OPENFACE_ONLY, key=lambda code: int(code[2:]))
    padded = {code: f"AU{int(code[2:]):02d}" for code in codes}
    columns = ["frame", "face_id", "timestamp", "confidence", "success"]
    columns += [f"{padded[code]}_r" for code in codes if code != "AU28"] + [f"{padded[code]}_c" for code in codes]
    starts = sorted({entry.start_s for person in report.people for entry in person.timeline})
    frames = {start: number for number, start in enumerate(starts, 1)}
    rows = []
    for person in report.people:
        for entry in person.timeline:
            success = int(bool(entry.aus))
            row: dict[str, float] = {
                "frame": frames[entry.start_s],
                "face_id": person.id,
                "timestamp": entry.start_s,
                "confidence": success,
                "success": success,
            }
            for code, intensity in entry.aus.items():
                row |= {f"{padded[code]}_r": round(intensity, 3), f"{padded[code]}_c": int(intensity >= PRESENT)}
            rows.append(row | {label: int(label == entry.emotion) for label in EXPRESSIONS})
    table = pd.DataFrame(rows, columns=[*columns, *EXPRESSIONS])
    flags = [name for name in columns if name.endswith("_c")]
    return table.astype(dict.fromkeys(flags, "Int64")).sort_values(["frame", "face_id"])
