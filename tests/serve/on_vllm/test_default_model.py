"""The default model says the same on both engines. In a process of its own, since one process holds one vLLM."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from emollm.errors import EmoLLMError
from emollm.model.checkpoint import default_model

COMPARE = """
import sys
from pathlib import Path
from reference import Case, Engine, Reference, assert_alike
from tiny import make_clip
from emollm.reasoning.prompts import clip_message, user_message
folder = Path(sys.argv[1])
clips = [make_clip(), make_clip(3.0, seed=1, voice=False), make_clip(2.0, seed=2, face=False)]
cases = [Case([clip_message()], [("video", clip)]) for clip in clips]
cases += [Case([clip_message(media="image")], [("image", make_clip(0.0, seed=3))])]
cases += [Case([user_message("How do people show anger?")], [])]
reference, engine = Reference(folder), Engine(folder)
replies = engine.replies([(reference.text(case), case.clips) for case in cases])
for case, reply in zip(cases, replies):
    assert_alike(reply, reference.reply(case))
print("alike", len(replies))
engine.close()
"""


@pytest.mark.default_model
def test_the_default_model_replies_alike():
    try:
        folder = default_model(progress=False)
    except EmoLLMError as error:
        pytest.skip(f"the parts of the default model are not in reach: {error}")
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent.parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", COMPARE, str(folder)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "alike 5" in done.stdout
