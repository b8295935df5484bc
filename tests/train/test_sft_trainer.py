"""Weights of tokens, logs, and which checkpoint a run goes on from."""

from importlib.util import find_spec

import pytest
import torch
from fakes import make_face_states, make_voices
from torch.testing import assert_close
from trl import SFTConfig

from emollm.data.compose import compose
from emollm.model.checkpoint import assemble
from emollm.train.collate import IGNORED, ComposedCollator
from emollm.train.trainer import WeightedTrainer, last_complete, tensorboard

FACES, VOICES = make_face_states(), make_voices()
END = 9


@pytest.fixture(scope="module")
def rows():
    """Records that think, and two that do not."""
    thinks = compose(4, FACES, VOICES, "train", 0, {"emotion": 1.0}, think_share=1.0)
    plain = compose(2, FACES, VOICES, "train", 1, {"emotion": 1.0}, think_share=0.0)
    return [{"record": record.to_json()} for record in (*thinks, *plain)]


@pytest.fixture(scope="module")
def trainer(parts, rows, tmp_path_factory):
    from datasets import Dataset

    model, processor = assemble(parts.llm, parts.audio_encoder, parts.face_tower, parts.voice_head)
    arguments = SFTConfig(
        output_dir=str(tmp_path_factory.mktemp("trainer")),
        report_to=[],
        use_cpu=True,
        bf16=False,
        max_length=None,
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    return WeightedTrainer(
        think_end=processor.tokenizer.convert_tokens_to_ids("</think>"),
        think_weight=1.0,
        answer_weight=1.0,
        model=model.eval(),
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        data_collator=ComposedCollator(processor, FACES, VOICES),
        processing_class=processor.tokenizer,
    )


def by_hand(trainer, batch, think: float, answer: float) -> tuple[float, float]:
    """Weighted sum of the losses of all tokens, one by one, and the sum of their weights."""
    with torch.no_grad():
        inputs = {key: value for key, value in batch.items() if key != "labels"}
        logs = trainer.model(**inputs).logits.double().log_softmax(-1)
    loss = total = 0.0
    for row, labels in enumerate(batch["labels"].tolist()):
        thinking = trainer.think_end in labels
        for place, label in enumerate(labels):
            if label == IGNORED:
                continue
            weight = think if thinking else answer
            thinking = thinking and label != trainer.think_end
            loss -= weight * float(logs[row, place - 1, label])
            total += weight
    return loss, total


@pytest.mark.parametrize(("think", "answer"), [(1.0, 1.0), (0.25, 2.0), (0.0, 1.0)])
def test_the_loss_is_the_weighted_mean(trainer, rows, monkeypatch, think, answer):
    monkeypatch.setattr(trainer, "think_weight", think)
    monkeypatch.setattr(trainer, "answer_weight", answer)
    batch = trainer.data_collator(rows)
    loss, total = by_hand(trainer, batch, think, answer)
    assert_close(trainer.compute_loss(trainer.model, dict(batch)).item(), loss / total, rtol=1e-4, atol=1e-5)


def test_batches_of_one_step_are_weighted_together(trainer, rows, monkeypatch):
    monkeypatch.setattr(trainer, "think_weight", 0.25)
    halves = [trainer.data_collator(part) for part in (rows[:4], rows[4:])]
    number = trainer._get_num_items_in_batch(halves, torch.device("cpu"))
    sums, totals = zip(*(by_hand(trainer, half, 0.25, 1.0) for half in halves))
    assert_close(float(number), sum(totals))
    losses = [trainer.compute_loss(trainer.model, dict(half), num_items_in_batch=number).item() for half in halves]
    assert_close(sum(losses), sum(sums) / sum(totals), rtol=1e-4, atol=1e-5)


def test_weights_of_tokens(trainer, monkeypatch):
    monkeypatch.setattr(trainer, "think_end", END)
    monkeypatch.setattr(trainer, "think_weight", 0.5)
    labels = torch.tensor([[IGNORED, 3, END, 4, 5], [IGNORED, IGNORED, 3, 4, IGNORED]])
    assert trainer.token_weights(labels).tolist() == [[0, 0.5, 0.5, 1, 1], [0, 0, 1, 1, 0]]


def test_a_torn_checkpoint_is_passed_over(tmp_path):
    assert last_complete(tmp_path / "checkpoints") is None
    for step in (8, 50, 100, 150):
        folder = tmp_path / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        name = "adapters.safetensors" if step < 150 else "adapters.safetensors.part"
        (folder / name).touch()
    assert last_complete(tmp_path / "checkpoints").name == "checkpoint-100"


@pytest.mark.skipif(not find_spec("tensorboard"), reason="TensorBoard is not installed")
def test_what_is_logged_behind_the_checkpoint_is_dropped(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for start, steps in ((None, range(1, 6)), (tmp_path / "checkpoint-3", range(4, 8))):
        (callback,) = tensorboard(tmp_path / "logs", start)
        for step in steps:
            callback.tb_writer.add_scalar("train/loss", 1 if start is None else 2, step)
        callback.tb_writer.close()
    events = EventAccumulator(str(tmp_path / "logs"))
    events.Reload()
    assert {event.step: event.value for event in events.Scalars("train/loss")} == dict.fromkeys(
        (1, 2, 3), 1
    ) | dict.fromkeys((4, 5, 6, 7), 2)
