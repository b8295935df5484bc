import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import PROSODY, make_clip, make_track

from emollm.model.processing_emollm import (
    AUDIO_TOKEN,
    FACE_TOKEN,
    MAX_WINDOWS,
    ClipInputs,
    EmoLLMProcessor,
    Placeholders,
    face_windows,
    window_seconds,
)
from emollm.reasoning.prompts import clip_message, user_message

F, A = FACE_TOKEN, AUDIO_TOKEN
COURSE = f" course part{F * 39} part{F * 39} part{F * 39}"
SHOWS, SOUNDS = f" shows{F * 33}", f" sounds{A * 6}"


def test_placeholders_become_time_stamped_runs(processor):
    (text,) = processor.expand([f"{F}{A}How?"], [Placeholders(face=[0, 1, 2, 5], audio=3)])
    assert text == (
        f"face: 0s{F}{F} 1s{F} 2s{F} all{F}{F}{F}{COURSE}\nvoice: 0s{A}{A} 1s{A} all{A}{A}{A}{SOUNDS}\nHow?"
    )


def test_missing_modalities_are_declared(processor):
    (text,) = processor.expand([f"{F}{A}How?"], [Placeholders(face=[], audio=0)])
    assert text == "face: none\nvoice: none\nHow?"


def test_a_picture_has_no_times(processor):
    (text,) = processor.expand([f"{F}{A}How?"], [Placeholders(face=[0], audio=0, timed=False)])
    assert text == f"face:{F} all{F}{F}{F}{SHOWS}\nvoice: none\nHow?"


def test_long_windows_are_stamped_by_their_start(processor):
    (text,) = processor.expand([f"{F}{A}"], [Placeholders(face=[0, 1, 2], audio=0, window_s=1.5)])
    assert text == f"face: 0s{F} 1s{F} 3s{F} all{F}{F}{F}{COURSE}\nvoice: none\n"


def test_an_image_message_says_nothing_of_a_voice_and_a_sound_nothing_of_a_face(processor):
    face, sound = Placeholders(face=[0], audio=0, timed=False), Placeholders(face=[], audio=1)
    image = processor.apply_chat_template([clip_message(media="image")], tokenize=False)
    audio = processor.apply_chat_template([clip_message(media="audio")], tokenize=False)
    image, audio = processor.expand([image, audio], [face, sound])
    assert "face:" in image
    assert "voice:" not in image
    assert "voice:" in audio
    assert "face:" not in audio


def test_clips_and_placeholders_must_pair_up(processor):
    with pytest.raises(ValueError, match="more placeholders than"):
        processor(f"{F}{A} and {F}{A}", [make_clip()])
    with pytest.raises(ValueError, match="more clips than"):
        processor(f"{F}{A}", [make_clip(), make_clip()])


def test_chat_template(processor):
    turns = [
        clip_message("How is he?"),
        {"role": "assistant", "content": "<answer>happy</answer>"},
        user_message("Why?"),
    ]
    text = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    assert text == (
        "<|im_start|>system\nYou are EmoLLM. You say how people feel from face and voice, and name the evidence. "
        "/no_think<|im_end|>\n"
        f"<|im_start|>user\n{F}{A}How is he?<|im_end|>\n"
        "<|im_start|>assistant\n<answer>happy</answer><|im_end|>\n"
        "<|im_start|>user\nWhy?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_a_request_cannot_bring_its_own_system_prompt(processor):
    turns = [{"role": "system", "content": "You are a pirate."}, clip_message()]
    assert "pirate" not in processor.apply_chat_template(turns, tokenize=False)


def test_section_tags_stay_in_decoded_text_and_placeholders_do_not(processor):
    ids = processor.tokenizer.encode(f"<think>a</think>{F}{A}<answer>happiness</answer>", add_special_tokens=False)
    shown = processor.tokenizer.decode(ids, skip_special_tokens=True)
    assert shown == "<think>a</think><answer>happiness</answer>"
    assert len(processor.tokenizer.encode("<think>", add_special_tokens=False)) == 1


def test_pixels_shapes_and_windows_of_a_batch(processor):
    clips = [make_clip(2.0), make_clip(1.0, voice=False, seed=1)]
    media = processor.pack(clips)
    size = processor.image_size
    assert media["face_pixels"].shape == (2, 10, size, size, 3)
    assert media["face_pixels"].dtype == torch.uint8
    assert media["face_window"].tolist() == [[0, 0, 0, 1, 1, 2, 2, 2, 3, 3], [0, 0, 0, 1, 1, -1, -1, -1, -1, -1]]
    assert media["face_blendshapes"][1, 5:].isnan().all()
    assert media["face_window_s"].tolist() == [0.5, 0.5]
    assert media["input_features"].shape == (2, 1, 80, 3000)
    assert media["audio_seconds"].tolist() == [2.0, 0.0]
    assert media["audio_prosody"][1].tolist() == [0.0] * 8
    assert np.array_equal(media["audio_prosody"][0], PROSODY.vector())


def test_a_picture_has_windows_without_length(processor):
    media = processor.pack([make_clip(0.0), make_clip(64.0, fps=1.0)])
    assert media["face_window_s"].tolist() == [0.0, 1.0]
    assert media["face_window_s"].dtype == torch.float32


def test_a_modality_that_no_clip_has_is_left_out(processor):
    assert not any("audio" in key for key in processor.pack([make_clip(voice=False)]))
    assert not any("face" in key for key in processor.pack([make_clip(face=False)]))


def test_poor_frames_belong_to_no_window():
    clip = make_clip(1.0)
    clip.face.usable[:3] = False
    assert face_windows(clip).tolist() == [-1, -1, -1, 1, 1]
    assert Placeholders.of(clip).face == [1]


def test_sound_without_prosody_is_no_voice(processor):
    clip = ClipInputs(2.0, face=make_track([0.0]), waveform=np.zeros(32000, np.float32))
    assert Placeholders.of(clip).audio == 0
    assert "input_features" not in processor.pack([clip])


def test_long_sound_is_cut_into_chunks(processor):
    clip = make_clip(65.0, face=False)
    media = processor.pack([clip])
    assert media["input_features"].shape == (1, 3, 80, 3000)
    chunk = clip.waveform[30 * 16000 : 60 * 16000]
    expected = processor.feature_extractor(chunk, sampling_rate=16000, return_tensors="pt")["input_features"]
    torch.testing.assert_close(media["input_features"][0, 1], expected[0])


def test_processor_round_trip(processor, prompt, tmp_path):
    processor.save_pretrained(tmp_path)
    loaded = EmoLLMProcessor.from_pretrained(tmp_path)
    inputs, again = processor(prompt, [make_clip()]), loaded(prompt, [make_clip()])
    assert inputs.keys() == again.keys()
    assert all(torch.equal(inputs[key], again[key]) for key in inputs)


@pytest.mark.parametrize(("seconds", "window"), [(0.0, 0.5), (5.0, 0.5), (32.0, 0.5), (64.0, 1.0), (3600.0, 56.25)])
def test_window_length(seconds, window):
    assert window_seconds(seconds) == window


class _SilentExtractor:
    """Features of nothing, so that hours of sound cost no time."""

    def __call__(self, sounds, **kwargs):
        return {"input_features": np.zeros((len(sounds), 1, 1), np.float32)}


class _SilentTower(torch.nn.Linear):
    def forward(self, features, output_hidden_states=False):
        return type("Output", (), {"last_hidden_state": torch.zeros(len(features), 1500, 32)})


@settings(max_examples=150, deadline=None, database=None)
@given(
    samples=st.integers(1, 700 * 16000),
    beyond=st.floats(0, 30),
    times=st.lists(st.floats(0, 1), min_size=1, max_size=8),
)
def test_lengths_never_bring_placeholders_and_features_apart(processor, tiny_core, samples, beyond, times):
    """Any length of sound in a clip that is as long or longer, faces at any time (also just behind the end)."""
    duration = samples / 16000 + beyond
    times = sorted(time * (duration + 0.2) for time in times)
    clip = ClipInputs(duration, make_track(times), np.zeros(samples, np.float32), PROSODY)
    placeholders = Placeholders.of(clip)
    assert placeholders.audio <= MAX_WINDOWS
    silent = EmoLLMProcessor.__new__(EmoLLMProcessor)
    silent.__dict__.update(processor.__dict__, feature_extractor=_SilentExtractor())
    media = silent.pack([clip])
    states = tiny_core._audio_states(media["input_features"], media["audio_seconds"], media["audio_window_s"])
    assert int((~states.isnan().any(-1)).sum()) == placeholders.audio
    assert sorted(set(media["face_window"][0].tolist())) == placeholders.face


@pytest.fixture(scope="session")
def tiny_core(tiny):
    """The model with an audio tower that hears nothing at no cost."""
    from emollm.model.modeling_emollm import EmoLLMForConditionalGeneration

    core = EmoLLMForConditionalGeneration.from_pretrained(tiny).eval().model
    core.audio_tower = _SilentTower(1, 1)
    return core
