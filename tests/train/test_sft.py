import json

import pytest
import torch
from fakes import make_faces
from safetensors.torch import load_file, save_file
from tiny import AUDIO_SIZE, make_clip
from torch.testing import assert_close

from emollm.data.voices import Voices
from emollm.errors import BadArgumentError
from emollm.eval import provenance
from emollm.model.audio_encoder import LayersVoiceHead
from emollm.model.checkpoint import assemble, merged, ship, voice_note
from emollm.reasoning.prompts import clip_message
from emollm.train import sft
from emollm.train.face import FaceCollator
from emollm.train.material import in_batches
from emollm.train.sft import SFTRecipe, build_records, composed_material, encode_faces, face_states, train_sft

TRAINED = ("face_adapter", "audio_adapter", "prosody_adapter", "reading_symbols")


@pytest.fixture
def recipe(tmp_path, data, parts, monkeypatch):
    monkeypatch.setattr(sft, "fetch", {"llm": parts.llm, "audio_encoder": parts.audio_encoder}.__getitem__)
    return SFTRecipe(
        output=tmp_path / "run",
        face_tower=parts.face_tower,
        faces=[data / "faces" / "fake.npz"],
        voice_head=parts.voice_head,
        voices=data / "voices" / "emodb.npz",
        stages=[
            {"records": 12, "think_share": 0.0, "mix": {"emotion": 1.0}},
            {"records": 12, "think_share": 1.0, "mix": {"emotion": 1.0, "why": 1.0}},
        ],
        batch_size=4,
        learning_rate=0.05,  # three warm-up steps must be enough to see
        lora_rank=2,
        max_steps=3,
    )


class _Gradients(sft.SaveParts):
    """Notes which parameters have gradients when the optimiser steps."""

    seen: set[str]

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        type(self).seen = {
            name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0
        }


def test_gradients_reach_lora_and_adapters_and_nothing_else(recipe, monkeypatch):
    monkeypatch.setattr(sft, "SaveParts", _Gradients)
    train_sft(recipe)
    core = {name.removeprefix("base_model.model.model.") for name in _Gradients.seen}
    lora = {name for name in core if ".lora_" in name}
    assert all(name.startswith("language_model.") for name in lora)
    for projection in ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"):
        assert any(projection in name for name in lora), projection
    assert {name.split(".")[0] for name in core - lora} == set(TRAINED)
    for adapter in ("face_adapter", "audio_adapter"):
        assert {f"{adapter}.{part}.weight" for part in ("norm", "up", "kind", "down", "reading")} <= core


def test_a_run_changes_what_it_says_it_trains(recipe, parts):
    torch.manual_seed(0)
    untrained, _ = assemble(parts.llm, parts.audio_encoder, parts.face_tower, parts.voice_head)
    summary = train_sft(recipe)
    assert summary["train_loss"] > 0
    saved = load_file(recipe.output / "adapters.safetensors")
    for key, value in load_file(parts.voice_head).items():
        assert torch.equal(saved[f"voice_head.{key}"], value)  # trained before, frozen here
    reading = untrained.model.face_adapter.reading.weight
    assert (saved["face_adapter.reading.weight"] - reading).abs().max() > 1e-3
    lora = load_file(recipe.output / "lora" / "adapter_model.safetensors")
    assert all(value.dtype == torch.float32 for value in lora.values())
    assert max(value.abs().max() for key, value in lora.items() if "lora_B" in key) > 0
    assert json.loads((recipe.output / "log.json").read_text())
    assert json.loads((recipe.output / "machine.json").read_text()) == provenance.hardware()


def test_what_was_trained_ships_and_loads(recipe, parts, tmp_path):
    train_sft(recipe)
    ship(recipe.output, recipe.face_tower, tmp_path / "shipped")
    trained, processor = merged(tmp_path / "shipped", parts.llm, parts.audio_encoder)
    untrained, _ = assemble(parts.llm, parts.audio_encoder, parts.face_tower, parts.voice_head)
    prompt = processor.apply_chat_template([clip_message()], tokenize=False, add_generation_prompt=True)
    text = processor.tokenizer("How does this person feel?", return_tensors="pt")
    inputs = processor(prompt, [make_clip()])
    with torch.no_grad():
        assert trained(**inputs).logits.isfinite().all()
        assert (trained(**inputs).logits - untrained(**inputs).logits).abs().max() > 1e-2
        assert (trained(**text).logits - untrained(**text).logits).abs().max() > 1e-3  # LoRA is merged in
    assert not [file for file in (tmp_path / "shipped").rglob("*") if file.suffix in (".bin", ".pt", ".pth")]


def run(recipe: SFTRecipe, **changes) -> SFTRecipe:
    torch.manual_seed(0)  # as a process of its own begins
    changed = recipe.model_copy(update=changes)
    train_sft(changed)
    return changed


def assert_same_weights(one: SFTRecipe, other: SFTRecipe) -> None:
    for file in ("adapters.safetensors", "lora/adapter_model.safetensors"):
        first, second = load_file(one.output / file), load_file(other.output / file)
        for key, value in first.items():
            assert_close(value, second[key], rtol=1e-3, atol=1e-4, msg=lambda text, key=key: f"{key}: {text}")


def test_runs_repeat(recipe, tmp_path):
    assert_same_weights(run(recipe), run(recipe, output=tmp_path / "again"))


def test_an_interrupted_run_goes_on_and_ends_where_a_whole_one_does(recipe, tmp_path):
    """Both end in the warm-up, whose rates do not depend on the run's length."""
    run(recipe, max_steps=2)
    assert_same_weights(run(recipe, max_steps=4), run(recipe, max_steps=4, output=tmp_path / "whole"))


def test_a_run_that_starts_from_another_keeps_the_voice_head_of_its_recipe(recipe, parts, tmp_path):
    first = run(recipe, max_steps=1)
    other = tmp_path / "other_head.safetensors"
    save_file({key: value + 1 for key, value in load_file(parts.voice_head).items()}, other)
    second = run(recipe, max_steps=1, output=tmp_path / "second", start_from=first.output, voice_head=other)
    saved = load_file(second.output / "adapters.safetensors")
    for key, value in load_file(other).items():
        assert torch.equal(saved[f"voice_head.{key}"], value)


def test_voices_of_another_head_are_refused(recipe, tmp_path):
    head = tmp_path / "layers.safetensors"
    note = voice_note(16, [0], None)
    save_file(LayersVoiceHead(AUDIO_SIZE, 16, 1).state_dict(), head, metadata=note)
    with pytest.raises(BadArgumentError, match="another voice head"):
        run(recipe, voice_head=head)


def test_records_are_made_once(recipe):
    faces, voices = face_states(recipe, valid=False), Voices.load(recipe.voices)
    records = build_records(recipe, faces, voices)
    assert [record.think for record in records] == [False] * 12 + [True] * 12
    (recipe.output / "train.jsonl").write_text(records[0].to_json() + "\n")
    assert build_records(recipe, faces, voices) == records[:1]


def test_faces_without_votes_and_of_the_other_split_are_left_out(recipe):
    faces = make_faces()
    train, valid = face_states(recipe, valid=False), face_states(recipe, valid=True)
    voted = faces.origin == "human"
    assert len(train.label) == (voted & ~faces.valid).sum()
    assert len(valid.label) == (voted & faces.valid).sum()


def test_states_are_the_features_of_the_tower(recipe):
    from emollm.model.face_encoder import FaceEncoder

    faces = make_faces().subset(slice(0, 6))
    tower = FaceEncoder.from_pretrained(recipe.face_tower).eval()
    batch = FaceCollator(faces, tower.config.image_size, augment=False)(list(range(6)))
    with torch.no_grad():
        expected = tower(batch["face_pixels"], batch["blendshapes"]).features
    assert_close(torch.from_numpy(encode_faces(recipe.face_tower, faces)), expected)


def test_order_keeps_the_curriculum_and_every_record(recipe):
    faces, voices = face_states(recipe, valid=False), Voices.load(recipe.voices)
    records = build_records(recipe, faces, voices)
    collate = composed_material(recipe).collate
    rows = [record.to_json() for record in records]
    many = rows[:12] * 20 + rows[12:] * 20
    order = in_batches(many, collate, 4, seed=0)
    assert sorted(order) == sorted(many)
    assert order == in_batches(many, collate, 4, seed=0)
    assert order != in_batches(many, collate, 4, seed=1)
    assert sorted(order[: 3 * 64]) == sorted(many[: 3 * 64])  # records stay within their group of 16 batches
    used, room = 0, 0
    for start in range(0, len(many), 4):
        mask = collate([{"record": row} for row in order[start : start + 4]])["attention_mask"]
        used, room = used + int(mask.sum()), room + mask.numel()
    assert used > 0.9 * room
