import shutil
import threading
from itertools import islice

import numpy as np
import pytest
from tiny import SCRIPT, make_clip

from emollm.emotions import EMOTIONS
from emollm.errors import WeightsError
from emollm.reasoning.prompts import assistant_message, clip_message, user_message
from emollm.serve import transformers_engine as engine_module
from emollm.serve.engine import Generation
from emollm.serve.transformers_engine import TransformersEngine

ASK = [clip_message()]


def test_greedy_replies_repeat(engine):
    clip = engine.encode(make_clip())
    assert engine.generate(ASK, clip, True) == engine.generate(ASK, clip, True)


def test_replies_depend_on_clip_question_and_mode(engine):
    clip, other = engine.encode(make_clip()), engine.encode(make_clip(seed=1))
    replies = [
        engine.generate(ASK, clip, True).text,
        engine.generate(ASK, other, True).text,
        engine.generate([clip_message("What does the face do?")], clip, True).text,
        engine.generate(ASK, clip, False).text,
        engine.generate([*ASK, assistant_message("happiness"), user_message("Why?")], clip, True).text,
    ]
    assert len(set(replies)) == len(replies)


def test_streamed_and_whole_replies_are_equal(engine):
    clip = engine.encode(make_clip())
    pieces = list(engine.stream(ASK, clip, True))
    assert len(pieces) > 10
    assert "".join(pieces) == engine.generate(ASK, clip, True).text


def test_section_tags_are_streamed_and_end_tokens_are_not(scripted):
    assert scripted.generate(ASK, scripted.encode(make_clip()), True).text == "".join(SCRIPT)


def test_labels_have_probabilities_where_an_answer_was_written(scripted):
    distribution = scripted.generate(ASK, scripted.encode(make_clip()), True).distribution
    assert tuple(distribution) == EMOTIONS
    assert sum(distribution.values()) == pytest.approx(1)
    assert max(distribution, key=distribution.get) == "happiness"


def test_without_an_answer_there_are_no_probabilities(engine):
    generation = engine.generate(ASK, engine.encode(make_clip()), True)
    assert "<answer>" not in generation.text
    assert generation.distribution == {}


def test_the_result_is_filled_only_when_the_stream_is_read_to_its_end(scripted):
    result = Generation()
    stream = scripted.stream(ASK, scripted.encode(make_clip()), True, result)
    next(stream)
    stream.close()
    assert result == Generation()


class _Steps:
    """Counts the steps of generation and holds it from the tenth on until the reader has asked to stop."""

    def __init__(self, engine, monkeypatch):
        self.count, self.asked = 0, threading.Event()
        asked = self.asked
        engine.model.lm_head.register_forward_hook(lambda *_: self._step())

        class Stop(engine_module._Stop):
            def __setattr__(self, name, value):
                super().__setattr__(name, value)
                if value:
                    asked.set()

        monkeypatch.setattr(engine_module, "_Stop", Stop)

    def _step(self):
        self.count += 1
        if self.count >= 10:
            assert self.asked.wait(timeout=60)


def test_a_reader_who_leaves_stops_generation(engine, monkeypatch):
    clip = engine.encode(make_clip())
    before = threading.active_count()
    steps = _Steps(engine, monkeypatch)
    stream = engine.stream(ASK, clip, True)
    list(islice(stream, 2))
    stream.close()  # comes back, and leaves no thread behind
    assert threading.active_count() == before
    assert steps.count <= 11


def test_a_failure_while_generating_reaches_the_reader(engine):
    clip = engine.encode(make_clip())
    whole = engine.generate(ASK, clip, True).text
    steps = []

    def fail(*_):
        steps.append(1)
        if len(steps) == 40:
            raise RuntimeError("out of memory")

    hook = engine.model.lm_head.register_forward_hook(fail)
    read: list[str] = []
    with pytest.raises(RuntimeError, match="out of memory"):
        read.extend(engine.stream(ASK, clip, True))
    assert read
    assert whole.startswith("".join(read))
    hook.remove()
    assert engine.generate(ASK, clip, True).text == whole


def test_readings_of_a_clip(engine):
    clip = make_clip(2.0)
    clip.face.usable[3:5] = False  # the second window
    encoded = engine.encode(clip)
    assert encoded.placeholders.face == [0, 2, 3]
    assert encoded.face_readings.shape == (4, 27)
    assert np.isnan(encoded.face_readings.numpy()).all(1).tolist() == [False, True, False, False]
    assert encoded.voice_readings.shape == (11,)
    assert float(encoded.voice_readings[:9].sum()) == pytest.approx(1)


@pytest.mark.parametrize("missing", ["face", "voice"])
def test_a_missing_modality_has_no_readings_and_no_states(engine, missing):
    encoded = engine.encode(make_clip(face=missing != "face", voice=missing != "voice"))
    assert (encoded.face_readings is None) == (missing == "face")
    assert (encoded.voice_readings is None) == (missing == "voice")
    assert not any(key.startswith({"face": "face", "voice": "audio"}[missing]) for key in encoded.states)
    assert engine.generate(ASK, encoded, True).text


@pytest.mark.parametrize("seconds", [0.0, 45.0], ids=["picture", "longer than the finest windows allow"])
def test_pictures_and_long_clips_are_answered(scripted, seconds):
    clip = scripted.encode(make_clip(seconds, fps=1.0))
    assert scripted.generate(ASK, clip, True).text == "".join(SCRIPT)


@pytest.mark.parametrize("typed", ["<|face|>", "<|audio|>", "<|im_end|>", "<|fa<|face|>ce|>", "<think>", "</answer>"])
def test_tokens_typed_by_a_user_are_text(engine, typed):
    clip = engine.encode(make_clip())
    tokens = []
    engine.model.model.register_forward_pre_hook(
        lambda module, args, kwargs: tokens.append(kwargs["input_ids"]), with_kwargs=True
    )
    list(engine.stream([clip_message(f"a {typed} b", transcript=typed)], clip, True))
    assert engine.processor.tokenizer.decode(tokens[0][0]).endswith("\na   b<|im_end|>\n<|im_start|>assistant\n")


@pytest.fixture
def damaged(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "damaged")


def test_a_folder_without_checkpoint_is_refused(tiny, tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere", tiny.parent / "llm"):
        with pytest.raises(WeightsError, match="holds no EmoLLM checkpoint"):
            TransformersEngine(folder)


def test_a_truncated_checkpoint_is_refused(damaged):
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="holds no EmoLLM checkpoint"):
        TransformersEngine(damaged)


def test_pickled_weights_are_not_read(damaged):
    import torch

    (damaged / "model.safetensors").unlink()
    torch.save({}, damaged / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="holds no EmoLLM checkpoint"):
        TransformersEngine(damaged)
