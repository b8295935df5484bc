import pytest
from tiny import make_clip


def touched(module):
    """Names of parameters that get a gradient other than zero; none may be infinite or not a number."""
    gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    return {name for name, gradient in gradients.items() if gradient.abs().max() > 0}


@pytest.fixture
def loss(model, ask):
    inputs = ask(make_clip(3.0), make_clip(2.0, seed=1))
    return lambda: model(**inputs, labels=inputs["input_ids"]).loss


@pytest.mark.parametrize(
    "name", ["face_adapter", "audio_adapter", "prosody_adapter", "reading_symbols", "language_model"]
)
def test_gradients_reach_every_parameter(model, loss, name):
    loss().backward()
    module = getattr(model.model, name)
    assert touched(module) == {name for name, _ in module.named_parameters()}


def test_gradients_reach_the_voice_head(model, loss):
    loss().backward()
    assert touched(model.model.voice_head) == {name for name, _ in model.model.voice_head.named_parameters()}


def test_gradients_reach_the_face_tower(model, loss):
    """All of it but the stand-in for missing blendshapes, which this batch does not need."""
    loss().backward()
    expected = {name for name, _ in model.model.face_tower.named_parameters()} - {"no_blendshapes"}
    assert touched(model.model.face_tower) == expected


def test_gradients_reach_the_stand_in_where_blendshapes_are_missing(model, ask):
    clip = make_clip()
    clip.face.blendshapes[3:] = float("nan")
    inputs = ask(clip)
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    assert "no_blendshapes" in touched(model.model.face_tower)


def test_gradients_reach_the_audio_tower(model, loss):
    loss().backward()
    assert "conv1.weight" in touched(model.model.audio_tower)


def test_frozen_parts_get_none(model, loss):
    for part in (model.model.face_tower, model.model.audio_tower):
        part.requires_grad_(False)
    loss().backward()
    assert not touched(model.model.face_tower) | touched(model.model.audio_tower)
    assert touched(model.model.face_adapter)


def test_a_missing_modality_trains_nothing_of_its_own(model, ask):
    inputs = ask(make_clip(voice=False))
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    assert touched(model.model.face_adapter)
    assert not touched(model.model.audio_adapter) | touched(model.model.prosody_adapter)
