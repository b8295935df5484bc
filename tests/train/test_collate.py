import numpy as np
import pytest
import torch
from fakes import make_face_states, make_voices

from emollm.data.compose import compose, face_course
from emollm.data.explain import QUESTIONS
from emollm.model.checkpoint import assemble
from emollm.model.processing_emollm import AUDIO_TOKEN, FACE_TOKEN
from emollm.train.collate import IGNORED, ComposedCollator

FACES, VOICES = make_face_states(), make_voices()


@pytest.fixture(scope="module")
def records():
    return list(compose(60, FACES, VOICES, "train", 0, dict.fromkeys(QUESTIONS, 1.0)))


@pytest.fixture
def collate(processor):
    return ComposedCollator(processor, FACES, VOICES)


def rows(records):
    return [{"record": record.to_json()} for record in records]


def test_exactly_the_last_turn_of_the_model_is_learned(collate, processor, records):
    batch = collate(rows(records))
    for record, ids, labels in zip(records, batch["input_ids"], batch["labels"]):
        learned = labels != IGNORED
        assert torch.equal(ids[learned], labels[learned])
        assert processor.tokenizer.decode(ids[learned]) == record.messages[-1]["content"] + "<|im_end|>"
        where = learned.nonzero().flatten()
        assert torch.equal(where, torch.arange(where[0], where[-1] + 1))  # one piece
        assert processor.tokenizer.decode(ids[: where[0]]).endswith("<|im_start|>assistant\n")


def test_padding_is_neither_attended_to_nor_learned(collate, records):
    batch = collate(rows(records[:8]))
    lengths = batch["attention_mask"].sum(1)
    assert len(set(lengths.tolist())) > 1
    for row, length in enumerate(lengths):
        assert batch["attention_mask"][row, :length].all()
        assert (batch["labels"][row, length:] == IGNORED).all()


def test_placeholders_and_states_agree_in_number(collate, processor, records):
    batch = collate(rows(records))
    assert (batch["face_window_s"] > 0).tolist() == [record.timed for record in records]
    faces, sounds = torch.where(batch["face_window_s"] > 0, 117, 33), torch.full((len(records),), 6)
    for name, token, symbols in (("face_states", FACE_TOKEN, faces), ("audio_states", AUDIO_TOKEN, sounds)):
        placeholders = (batch["input_ids"] == processor.tokenizer.convert_tokens_to_ids(token)).sum(1)
        windows = (~batch[name].isnan().any(-1)).sum(1)
        assert torch.equal(placeholders, torch.where(windows > 0, windows + 3 + symbols, 0))
        assert (placeholders > 0).any()
        assert (placeholders == 0).any()


def test_each_record_has_the_states_of_its_own_media(collate, records):
    batch = collate(rows(records))
    for record, faces, sound, prosody in zip(
        records, batch["face_states"], batch["audio_states"], batch["audio_prosody"]
    ):
        if record.faces:
            assert np.array_equal(faces[: record.windows], face_course(record, FACES))
            assert faces[record.windows :].isnan().all()
        if record.voice is None:
            assert sound.isnan().all()
            assert not prosody.any()
        else:
            assert np.array_equal(sound[0], VOICES.states[record.voice, 0])
            assert np.array_equal(prosody, VOICES.vector[record.voice])


def test_the_model_takes_the_batch_and_each_record_costs_the_same_alone(collate, parts, records):
    model, _ = assemble(parts.llm, parts.audio_encoder, parts.face_tower, parts.voice_head)
    alone = []
    with torch.no_grad():
        for record in records[:6]:
            alone.append(model(**collate(rows([record]))).logits[0])
        batch = collate(rows(records[:6]))
        together = model(**batch).logits
    for one, other, mask in zip(alone, together, batch["attention_mask"]):
        torch.testing.assert_close(one, other[mask.bool()], rtol=1e-3, atol=1e-3)


def test_modes_are_told_in_the_prompt(collate, processor, records):
    batch = collate(rows(records))
    for record, ids in zip(records, batch["input_ids"]):
        assert ("/no_think" in processor.tokenizer.decode(ids)) != record.think
