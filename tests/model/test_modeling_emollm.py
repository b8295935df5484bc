import pytest
import torch
from tiny import make_clip
from torch.testing import assert_close
from transformers import AutoModelForImageTextToText

from emollm.model.modeling_emollm import MEDIA_ARGUMENTS, EmoLLMForConditionalGeneration
from emollm.model.processing_emollm import AUDIO_TOKEN, FACE_TOKEN, ClipInputs

CLIPS = {
    "face and voice": make_clip(2.0),
    "longer": make_clip(4.6, seed=1),
    "face only": make_clip(3.0, voice=False, seed=2),
    "voice only": make_clip(1.2, face=False, seed=3),
    "picture": make_clip(0.0, seed=4),
}


def logits_of(model, inputs):
    """Logits of each row's own tokens, padding cut off."""
    with torch.no_grad():
        logits = model(**inputs).logits
    return [row[mask.bool()] for row, mask in zip(logits, inputs["attention_mask"])]


def without(inputs, prefix):
    return {key: value for key, value in inputs.items() if not key.startswith(prefix)}


# Placeholders and features


def test_placeholders_without_features_are_refused(model, ask):
    inputs = ask(make_clip())
    with pytest.raises(ValueError, match="face placeholders, but there are 0"):
        model(**without(inputs, "face"))
    with pytest.raises(ValueError, match="audio placeholders, but there are 0"):
        model(**without(without(inputs, "audio"), "input_features"))


def test_text_without_media_needs_none(model, processor):
    tokens = processor.tokenizer("How does this person feel?", return_tensors="pt")
    assert model(**tokens).logits.isfinite().all()


@pytest.mark.parametrize("token", [FACE_TOKEN, AUDIO_TOKEN])
def test_features_without_placeholders_are_refused(model, processor, ask, token):
    inputs = dict(ask(make_clip()))
    token_id = processor.tokenizer.convert_tokens_to_ids(token)
    inputs["input_ids"] = torch.where(inputs["input_ids"] == token_id, 5, inputs["input_ids"])
    with pytest.raises(ValueError, match="the text has 0"):
        model(**inputs)


@pytest.mark.parametrize(("token", "left"), [(FACE_TOKEN, 4 + 3 + 117 - 1), (AUDIO_TOKEN, 4 + 3 + 6 - 1)])
def test_a_wrong_number_of_placeholders_is_refused(model, processor, ask, token, left):
    inputs = dict(ask(make_clip()))
    place = (inputs["input_ids"][0] == processor.tokenizer.convert_tokens_to_ids(token)).nonzero()[0, 0]
    inputs["input_ids"] = inputs["input_ids"].clone()
    inputs["input_ids"][0, place] = 5
    with pytest.raises(ValueError, match=f"the text has {left}"):
        model(**inputs)


@pytest.mark.parametrize("missing", ["face_window", "face_window_s", "audio_prosody", "audio_seconds"])
def test_half_of_the_media_arguments_is_refused(model, ask, missing):
    with pytest.raises(ValueError, match="need"):
        model(**without(ask(make_clip()), missing))


# What stands beside a sample must not matter


@pytest.mark.parametrize("side", ["left", "right"])
def test_each_sample_is_answered_as_if_it_were_alone(model, ask, side):
    alone = [logits_of(model, ask(clip))[0] for clip in CLIPS.values()]
    together = logits_of(model, ask(*CLIPS.values(), padding_side=side))
    for one, other, name in zip(alone, together, CLIPS):
        assert_close(one, other, rtol=1e-4, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


def test_order_in_the_batch_does_not_matter(model, ask):
    forwards = logits_of(model, ask(*CLIPS.values()))
    backwards = logits_of(model, ask(*reversed(CLIPS.values())))
    for one, other in zip(forwards, reversed(backwards)):
        assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_what_is_seen_and_heard_matters(model, ask):
    clip, other = make_clip(seed=0), make_clip(seed=9)
    logits = {
        "clip": logits_of(model, ask(clip))[0],
        "other face": logits_of(model, ask(ClipInputs(2.0, other.face, clip.waveform, clip.prosody)))[0],
        "other voice": logits_of(model, ask(ClipInputs(2.0, clip.face, other.waveform, clip.prosody)))[0],
    }
    for name in ("other face", "other voice"):
        assert (logits["clip"] - logits[name]).abs().max() > 1e-2, name


def test_a_clip_without_usable_frames_counts_as_without_face(model, ask, processor):
    clip = make_clip()
    clip.face.usable[:] = False
    inputs = ask(clip)
    assert "face: none" in processor.tokenizer.decode(inputs["input_ids"][0])
    blind = logits_of(model, ask(make_clip(face=False)))[0]
    assert_close(logits_of(model, inputs)[0], blind)


def test_two_clips_in_one_conversation(model, processor, prompt):
    """The second clip changes nothing before it, and each run of placeholders gets the features of its own clip."""
    first, second, other = make_clip(1.0), make_clip(1.5, seed=1), make_clip(1.5, seed=2)
    alone = processor(prompt, [first])
    both = processor(prompt + "happy<|im_end|>\n" + prompt, [first, second])
    changed = processor(prompt + "happy<|im_end|>\n" + prompt, [first, other])
    length = alone["input_ids"].shape[1]
    (a,), (b,), (c,) = (logits_of(model, inputs) for inputs in (alone, both, changed))
    assert_close(a[: length - 1], b[: length - 1], rtol=1e-4, atol=1e-4)
    assert_close(b[: length - 1], c[: length - 1], rtol=1e-4, atol=1e-4)
    assert (b[length:] - c[length:]).abs().max() > 1e-2


@pytest.mark.parametrize("seconds", [31.9, 32.0, 33.3, 100.0])
def test_long_clips_have_as_many_features_as_placeholders(model, ask, seconds):
    clip = make_clip(seconds, fps=1.0)
    assert (clip.window_s > 0.5) == (seconds > 32)
    inputs = ask(clip)
    with torch.no_grad():
        assert model(**inputs).logits.isfinite().all()


# Towers once


def test_states_of_an_earlier_call_do_instead_of_pixels_and_sound(model, ask):
    inputs = ask(*CLIPS.values())
    media = {key: inputs[key] for key in MEDIA_ARGUMENTS if key in inputs}
    with torch.no_grad():
        faces = model.get_face_features(**{key: value for key, value in media.items() if key.startswith("face_")})
        sound = model.get_audio_features(
            media["input_features"], media["audio_seconds"], media["audio_window_s"], media["audio_prosody"]
        )
    states = {
        "face_states": faces.last_hidden_state,
        "face_window_s": media["face_window_s"],
        "audio_states": sound.last_hidden_state,
        "audio_prosody": media["audio_prosody"],
    }
    tokens = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    for one, other in zip(logits_of(model, inputs), logits_of(model, {**tokens, **states})):
        assert_close(one, other)


def test_readings_are_measurements(model, ask):
    inputs = ask(make_clip(3.0), make_clip(1.0, seed=1))
    with torch.no_grad():
        faces = model.get_face_features(**{key: value for key, value in inputs.items() if key.startswith("face_")})
    assert faces.readings.shape == (2, 6, model.config.face_config.num_readings)
    assert faces.present.tolist() == [[True] * 6, [True] * 2 + [False] * 4]
    seen = faces.readings[faces.present]
    units, expressions, coordinates = seen[:, :17], seen[:, 17:25], seen[:, 25:]
    assert ((units >= 0) & (units <= 1)).all()
    assert_close(expressions.sum(-1), torch.ones(len(seen)))
    assert (coordinates.abs() <= 1).all()


def test_a_window_is_the_mean_of_its_frames(model, ask):
    inputs = ask(make_clip(1.0))
    with torch.no_grad():
        states = model.get_face_features(
            inputs["face_pixels"], inputs["face_blendshapes"], inputs["face_window"], inputs["face_window_s"]
        ).last_hidden_state
        frames = model.model.face_tower(inputs["face_pixels"][0], inputs["face_blendshapes"][0]).features
    window = inputs["face_window"][0]
    for index in range(2):
        assert_close(states[0, index], frames[window == index].mean(0))


# Cache


def test_greedy_reply_is_the_same_with_and_without_cache(model, ask):
    inputs = ask(*CLIPS.values())
    cached = model.generate(**inputs, max_new_tokens=24, use_cache=True)
    assert torch.equal(cached, model.generate(**inputs, max_new_tokens=24, use_cache=False))
    new = cached[:, inputs["input_ids"].shape[1] :]
    assert len({tuple(row) for row in new.tolist()}) > 1  # the clips are answered, not the prompt alone


def test_logits_step_by_step_with_cache_equal_those_of_the_whole(model, ask):
    inputs = ask(make_clip())
    length = inputs["input_ids"].shape[1] - 5
    with torch.no_grad():
        whole = model(**inputs).logits
        prefix = {**inputs, "input_ids": inputs["input_ids"][:, :length]}
        prefix["attention_mask"] = inputs["attention_mask"][:, :length]
        out = model(**prefix, use_cache=True)
        steps = [out.logits]
        for position in range(length, length + 5):
            token = inputs["input_ids"][:, position : position + 1]
            out = model(input_ids=token, past_key_values=out.past_key_values, use_cache=True)
            steps.append(out.logits)
    assert_close(torch.cat(steps, dim=1), whole, rtol=1e-4, atol=1e-4)


def test_replies_in_a_padded_batch_equal_replies_alone(model, ask):
    inputs = ask(*CLIPS.values())
    together = model.generate(**inputs, max_new_tokens=12)[:, inputs["input_ids"].shape[1] :]
    for row, clip in zip(together, CLIPS.values()):
        alone = ask(clip)
        reply = model.generate(**alone, max_new_tokens=12)[0, alone["input_ids"].shape[1] :]
        assert row[: len(reply)].tolist() == reply.tolist()


def test_several_samples_of_one_prompt_all_see_their_clip(model, ask):
    inputs = ask(make_clip(), make_clip(3.0, seed=1))
    greedy = model.generate(**inputs, max_new_tokens=8)
    sampled = model.generate(**inputs, max_new_tokens=8, do_sample=True, top_k=1, num_return_sequences=2)
    assert torch.equal(sampled, greedy.repeat_interleave(2, dim=0))


def test_placeholders_are_never_generated(model, processor, ask):
    ids = [processor.tokenizer.convert_tokens_to_ids(token) for token in (FACE_TOKEN, AUDIO_TOKEN)]
    with torch.no_grad():
        model.lm_head.weight[ids] *= 100  # the likeliest tokens by far, one way or the other
    inputs = ask(*CLIPS.values())
    new = model.generate(**inputs, max_new_tokens=16)[:, inputs["input_ids"].shape[1] :]
    assert not torch.isin(new, torch.tensor(ids)).any()


# Saving


def test_a_saved_model_is_the_same_model(model, ask, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = EmoLLMForConditionalGeneration.from_pretrained(tmp_path, use_safetensors=True).eval()
    inputs = ask(*CLIPS.values())
    for one, other in zip(logits_of(model, inputs), logits_of(loaded, inputs)):
        assert torch.equal(one, other)
    assert without(loaded.config.to_dict(), "_name") == without(model.config.to_dict(), "_name")
    assert loaded.generation_config.suppress_tokens == [model.config.face_token_id, model.config.audio_token_id]


def test_weights_are_saved_as_safetensors_only(model, tmp_path):
    model.save_pretrained(tmp_path)
    assert {file.suffix for file in tmp_path.iterdir()} == {".safetensors", ".json"}


def test_the_auto_class_finds_the_model(tiny):
    assert isinstance(AutoModelForImageTextToText.from_pretrained(tiny), EmoLLMForConditionalGeneration)


def test_embeddings_stay_tied(model):
    assert model.lm_head.weight is model.get_input_embeddings().weight


# Labels


def test_loss_counts_labelled_tokens_only(model, ask):
    inputs = ask(make_clip())
    labels = torch.full_like(inputs["input_ids"], -100)
    labels[0, -3:] = inputs["input_ids"][0, -3:]
    with torch.no_grad():
        out = model(**inputs, labels=labels)
    expected = torch.nn.functional.cross_entropy(out.logits[0, -4:-1], labels[0, -3:])
    assert_close(out.loss, expected)


def test_only_the_wanted_logits_are_computed(model, ask):
    inputs = ask(make_clip())
    with torch.no_grad():
        assert_close(model(**inputs, logits_to_keep=1).logits, model(**inputs).logits[:, -1:])
