"""Reading symbols: what they say, spelled out, and the tokens that they become."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import make_clip

from emollm.emotions import EMOTIONS, EXPRESSIONS
from emollm.facs import AU_CODES, AU_NAMES
from emollm.model.course import Course
from emollm.model.symbols import (
    FACE_SYMBOLS,
    SYMBOLS,
    VOICE_SYMBOLS,
    ReadingSymbols,
    face_symbols,
    stated_symbols,
    voice_symbols,
)
from emollm.voice.prosody import Prosody


def said(ids: torch.Tensor) -> list[str]:
    """Each symbol in words."""
    return [SYMBOLS[index] for index in ids.tolist()]


def filled(text: str, end: str) -> list[str]:
    """Eight symbols of a text, the last ones its end."""
    words = text.split()
    return words + [end] * (8 - len(words))


def unit(code: str, level: int, end: str = ",") -> list[str]:
    return filled(f"AU {' '.join(code.removeprefix('AU'))} {AU_NAMES[code]} {level}", end)


def make_course(*phases: tuple[int, int, str, dict[str, float]]) -> Course:
    """One clip's course of phases: first and last window, expression, AU intensities."""
    first, last, expression = (torch.full((1, 3), -1) for _ in range(3))
    units = torch.zeros(1, 3, 17)
    for row, (start, end, label, found) in enumerate(phases):
        first[0, row], last[0, row], expression[0, row] = start, end, EXPRESSIONS.index(label)
        for code, intensity in found.items():
            units[0, row, AU_CODES.index(code)] = intensity
    return Course(first, last, expression, units)


NONE = ["none"]


def test_a_course_spelled_out():
    course = make_course(
        (0, 5, "neutral", {}),
        (6, 23, "happiness", {"AU12": 3.6, "AU6": 2.0, "AU25": 0.9}),
    )
    (ids,) = face_symbols(course, torch.tensor([0.5]))
    assert said(ids) == [
        *"000", *"002", "neutral", *filled("no clear action", ";"), *NONE * 24,
        *"003", *"011", "happiness", *unit("AU12", 4), *unit("AU6", 2, "."), *NONE * 16,
        *NONE * 39,
    ]  # fmt: skip
    assert stated_symbols(torch.tensor([0.5])).all()


def test_a_picture_states_its_first_phase_without_times():
    units = {"AU4": 5.0, "AU7": 4.0, "AU10": 3.0, "AU24": 2.0, "AU1": 1.0}
    window_s = torch.tensor([0.0])
    (ids,) = face_symbols(make_course((0, 0, "anger", units)), window_s)
    assert said(ids[stated_symbols(window_s)[0]]) == [
        "anger", *unit("AU4", 5), *unit("AU7", 4), *unit("AU10", 3), *unit("AU24", 2, "."),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("window_s", "times"), [(3.0, ["123", "189"]), (1.1, ["045", "069"]), (56.25, ["999", "999"])]
)
def test_seconds_of_long_clips(window_s, times):
    (ids,) = face_symbols(make_course((41, 63, "fear", {})), torch.tensor([window_s]))
    assert said(ids[:6]) == [*times[0], *times[1]]


def test_a_phase_starts_at_second_0_and_none_is_no_second():
    (ids,) = face_symbols(make_course((0, 1, "fear", {})), torch.tensor([0.5]))
    assert said(ids)[:6] == [*"000", *"000"]
    (ids,) = face_symbols(make_course(), torch.tensor([0.5]))
    assert said(ids) == NONE * FACE_SYMBOLS


def heard(prosody: Prosody, emotion: str = "boredom") -> list[str]:
    scores = torch.nn.functional.one_hot(torch.tensor([EMOTIONS.index(emotion)]), len(EMOTIONS)).float()
    return said(voice_symbols(scores, torch.from_numpy(prosody.vector())[None])[0])


@settings(deadline=None)
@given(
    pitch=st.one_of(st.none(), st.floats(65, 500), st.sampled_from([130.0, 200.0, 240.0])),
    spread=st.one_of(st.floats(0, 8), st.sampled_from([1.4, 2.4, 3.4])),
    level=st.one_of(st.floats(-100, 0), st.sampled_from([-34.0, -14.0])),
    rate=st.one_of(st.floats(0, 12), st.sampled_from([4.7, 6.5])),
    pauses=st.one_of(st.floats(0, 1), st.sampled_from([0.1, 0.33])),
    emotion=st.sampled_from(EMOTIONS),
)
def test_a_voice_sounds_as_its_summary_says(pitch, spread, level, rate, pauses, emotion):
    prosody = Prosody(pitch, None if pitch is None else spread, level, 6.0, rate, pauses, 0.6, 2.0)
    label, *words = heard(prosody, emotion)
    assert label == emotion
    assert len(words) == VOICE_SYMBOLS - 1
    assert ", ".join(word for word in words if word != "normal intonation") == prosody.summary()
    assert (words[0] == "no measurable pitch") == (pitch is None)


def test_no_two_symbols_of_a_slot_say_the_same():
    assert len(SYMBOLS) == 10 + 1 + 8 + 31 + 9 + 16
    assert {word for word in SYMBOLS if SYMBOLS.count(word) > 1} == set(EXPRESSIONS)  # of a face, and of a voice


@pytest.mark.parametrize("code", AU_CODES)
def test_an_action_unit_is_spelled_as_texts_spell_it(code):
    (ids,) = face_symbols(make_course((0, 0, "anger", {code: 3.0})), torch.tensor([0.0]))
    symbols = said(ids)[7:15]
    assert symbols == unit(code, 3, ".")
    assert symbols[-1] == "."


def test_a_symbol_is_the_same_in_every_slot_at_first():
    symbols = ReadingSymbols(8)
    ids = torch.full((2, FACE_SYMBOLS), 3)
    assert torch.equal(symbols.faces(ids), symbols.symbol.weight[3].expand(2, FACE_SYMBOLS, 8))
    with torch.no_grad():
        symbols.slot.weight.copy_(torch.arange(FACE_SYMBOLS + VOICE_SYMBOLS)[:, None].expand(-1, 8))
    face = symbols.faces(ids) - symbols.symbol.weight[3]
    voice = symbols.voices(ids[:, :VOICE_SYMBOLS]) - symbols.symbol.weight[3]
    torch.testing.assert_close(face[0, :, 0], torch.arange(FACE_SYMBOLS).float())
    torch.testing.assert_close(voice[0, :, 0], FACE_SYMBOLS + torch.arange(VOICE_SYMBOLS).float())


@torch.no_grad()
def test_symbols_come_last_among_the_tokens_of_an_item(model, processor):
    """A clip, a picture and a sound without a face in one batch: 4 + 3 + 117, 1 + 3 + 33 and 0 face tokens."""
    media = processor.pack([make_clip(2.0), make_clip(0.0, seed=1), make_clip(1.0, face=False)])
    faces = model.get_face_features(**{key: value for key, value in media.items() if key.startswith("face_")})
    tokens, table = faces.pooler_output, model.model.reading_symbols.symbol.weight
    assert len(tokens) == 124 + 37
    symbols = torch.cat([tokens[7:124], tokens[128:161]])
    assert (symbols[:, None] == table).all(-1).any(1).all()  # no slot says anything yet
    assert not (torch.cat([tokens[:7], tokens[124:128]])[:, None] == table).all(-1).any()

    sounds = model.get_audio_features(
        *(media[name] for name in ("input_features", "audio_seconds", "audio_window_s", "audio_prosody"))
    )
    expected = voice_symbols(sounds.readings[:, : len(EMOTIONS)], media["audio_prosody"])
    tokens = sounds.pooler_output
    assert len(tokens) == (4 + 3 + 6) + (2 + 3 + 6)
    assert torch.equal(tokens[7:13], table[expected[0]])
    assert torch.equal(tokens[18:], table[expected[2]])


def test_symbols_start_as_words_of_the_language_model(model, processor):
    embeddings, table = model.get_input_embeddings().weight, model.model.reading_symbols.symbol.weight
    typical = embeddings.norm(dim=-1).median()

    def mean(text):
        return embeddings[processor.tokenizer.encode(text, add_special_tokens=False)].mean(0)

    torch.testing.assert_close(table[7], mean("7"))
    for mark in ",;.":
        torch.testing.assert_close(table[SYMBOLS.index(mark)], mean(mark))
    for word in ("none", "AU", "raiser", "boredom", "many pauses"):
        row = table[SYMBOLS.index(word)]
        torch.testing.assert_close(torch.cosine_similarity(row, mean(f" {word}"), dim=0), torch.tensor(1.0))
        torch.testing.assert_close(row.norm(), typical)
    assert not np.any(model.model.reading_symbols.slot.weight.detach().numpy())
