import json

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from torch.testing import assert_close
from trl import GRPOTrainer

from emollm.errors import BadArgumentError
from emollm.model.checkpoint import merged, ship
from emollm.train import grpo, sft
from emollm.train.grpo import GRPORecipe, grpo_config, make_trainer, train_grpo
from emollm.train.grpo_questions import Truth, questions
from emollm.train.recipe import load_recipe
from emollm.train.reward_functions import REWARDS, reward_function
from emollm.train.sft import composed_material


def told_apart(name, *limits):
    """The rewards, but for length: random weights write nothing that is worth more than the rest, so that tells
    replies apart by their first token."""
    if name != "length":
        return reward_function(name, *limits)

    def length(completion_ids, **_):
        return [ids[0] % 7 / 7 for ids in completion_ids]

    return length


@pytest.fixture
def recipe(tmp_path, data, parts, start, monkeypatch):
    monkeypatch.setattr(grpo, "reward_function", told_apart)
    monkeypatch.setattr(sft, "fetch", {"llm": parts.llm, "audio_encoder": parts.audio_encoder}.__getitem__)
    return GRPORecipe(
        output=tmp_path / "run",
        face_tower=parts.face_tower,
        faces=[data / "faces" / "fake.npz"],
        voice_head=parts.voice_head,
        voices=data / "voices" / "emodb.npz",
        stages=[{"records": 48, "think_share": 0.5, "mix": {"emotion": 0.8, "units": 0.2}}],
        start_from=start,
        rewards=dict.fromkeys(REWARDS, 1.0),
        batch_size=3,
        generations=4,
        wanted_tokens=5,
        max_tokens=12,
        learning_rate=0.05,  # a step must be enough to see
        warmup_steps=0,
        save_steps=1,
        max_steps=3,
        bf16=False,
    )


@pytest.fixture
def material(recipe):
    torch.manual_seed(0)
    return composed_material(recipe)


def mixed(rows, generations=4):
    """A group each of a clip without sound, one without a face, and one with both, in that order."""
    kinds = [["face"], ["voice"], ["face", "voice"]]
    chosen = [next(row for row in rows if Truth.from_json(row["truth"]).present == kind) for kind in kinds]
    return [row for row in chosen for _ in range(generations)]


def plain_log_probabilities(trainer, row, prompt, completion):
    """Of one rollout alone, unpadded, by the model's own forward."""
    clip = trainer.example(row)
    ids = torch.cat([prompt, completion])[None]
    media = {}
    if len(clip.face):
        media["face_states"] = torch.from_numpy(clip.face)[None]
        media["face_window_s"] = torch.tensor([clip.placeholders.face_window_s])
    if len(clip.sound):
        media |= {
            "audio_states": torch.from_numpy(clip.sound)[None],
            "audio_prosody": torch.from_numpy(clip.prosody)[None],
        }
    with torch.no_grad():
        logits = trainer.model(input_ids=ids, attention_mask=torch.ones_like(ids), **media).logits[0]
    scored = logits[len(prompt) - 1 : -1].div(trainer.temperature).log_softmax(-1)
    return scored.gather(1, completion[:, None])[:, 0]


def scored_rows(trainer, batch):
    """Prompt, completion and the trainer's log-probabilities of each rollout of a batch that TRL made."""
    trainer._media, trainer._clip = {name: batch[name] for name in trainer._media}, batch["clip"]
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    with torch.no_grad():
        scored, _, _ = trainer._get_per_token_logps_and_entropies(
            trainer.model, ids, mask, batch["completion_ids"].shape[1], batch_size=3
        )
    for row, values in enumerate(scored):
        said = batch["completion_mask"][row].bool()
        prompt = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()]
        yield prompt, batch["completion_ids"][row][said], values[said]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_each_rollout_is_scored_with_its_own_clip(recipe, material, temperature):
    rows = questions(material)
    trainer = make_trainer(recipe.model_copy(update={"temperature": temperature}), material, rows)
    batch = mixed(rows)
    assert len({len(trainer.example(row).face) for row in batch}) > 1
    known = {row["prompt"]: row for row in batch}
    assert len(known) == 3
    trainer.model.train()
    seen = []
    for trainer._step in range(recipe.batch_size):  # TRL shuffles the rollouts and hands out a part a step
        for prompt, completion, scored in scored_rows(trainer, trainer._prepare_inputs(batch)):
            text = material.processor.tokenizer.decode(prompt)
            assert_close(scored, plain_log_probabilities(trainer, known[text], prompt, completion), rtol=0, atol=1e-4)
            seen.append(text)
    assert sorted(seen) == sorted(row["prompt"] for row in batch)


def test_replies_learn_the_same_from_a_shared_prompt(recipe, material):
    rows = questions(material)
    trainer = make_trainer(recipe, material, rows)
    batch, gradients = mixed(rows), []
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 3  # TRL's loop sets it
    first = trainer._prepare_inputs(batch)
    assert [part["clip"].unique().tolist() for part in trainer._buffered_inputs] == [[0], [4], [8]]
    for trainer.args.gradient_checkpointing in (False, True):  # with it, every row is read by itself
        trainer.model.zero_grad()
        trainer._compute_loss(trainer.model, first).backward()
        gradients.append({name: part.grad for name, part in trainer.model.named_parameters() if part.requires_grad})
    assert any(gradient.abs().max() > 1e-3 for gradient in gradients[0].values())
    assert_close(*gradients, rtol=0, atol=1e-5)


def test_stock_trl_refuses_the_batch(recipe, material, start):
    rows = questions(material)
    stock = GRPOTrainer(
        model=make_trainer(recipe, material, rows).model,
        reward_funcs=[reward_function("format", 5, 12)],
        args=grpo_config(recipe.model_copy(update={"beta": 0.0, "rewards": {"format": 1.0}})),
        train_dataset=Dataset.from_list(rows),
        processing_class=material.processor.tokenizer,
    )
    with pytest.raises(ValueError, match=r"face placeholders, but there are 0 face features"):
        stock._generate_and_score_completions(mixed(rows))


def history(recipe):
    return [line for line in json.loads((recipe.output / "log.json").read_text()) if "reward" in line]


@pytest.mark.parametrize("bf16", [False, True])
def test_the_first_step_is_the_reference(recipe, bf16):
    changed = recipe.model_copy(update={"max_steps": 2, "bf16": bf16})
    train_grpo(changed)
    first, second = history(changed)
    assert first["kl"] == 0.0
    assert second["kl"] > 0


def test_the_log_shows_each_reward_and_what_would_show_that_it_is_gamed(recipe):
    summary = train_grpo(recipe)
    for line in history(recipe):
        for name in ("format", "label", "words", "units", "intensities", "support", "alignment", "fit", "length"):
            assert -1 <= line[f"rewards/{name}/mean"] <= 1
            assert line[f"rewards/{name}/std"] >= 0
            assert 0 <= line[f"rewards/{name}/zero_variance"] <= 1
        assert line["rewards/votes/mean"] is None  # composed clips have no votes
        assert "rewards/votes/zero_variance" not in line
        assert line["replies/unreadable"] == 1.0  # random weights
        assert line["rewards/format/mean"] == -1.0
        assert line["rewards/format/zero_variance"] == 1.0
        assert line["completions/mean_length"] > 0
    assert summary["reward"] == history(recipe)[-1]["reward"]
    files = sorted((recipe.output / "replies").iterdir())
    assert [file.name for file in files] == [f"0000{step}-0.jsonl" for step in (1, 2, 3)]
    replies = [json.loads(line) for line in files[0].read_text().splitlines()]
    assert len(replies) == recipe.batch_size * recipe.generations
    assert replies[0]["rewards"]["format"] == -1.0
    assert "votes" not in replies[0]["rewards"]
    every = [json.loads(line)["question"] for file in files for line in file.read_text().splitlines()]
    assert len(set(every)) == 3 * recipe.batch_size  # each record is asked about once
    assert all(len(set(every[at : at + recipe.generations])) == 1 for at in range(0, len(every), recipe.generations))


def test_questions_come_in_the_order_of_the_curriculum(recipe, material):
    rows = [Truth.from_json(row["truth"]) for row in questions(material)]
    train_grpo(recipe)
    for step in (1, 2, 3):
        lines = (recipe.output / "replies" / f"0000{step}-0.jsonl").read_text().splitlines()
        asked = [json.loads(line) for line in lines][:: recipe.generations]
        expected = rows[(step - 1) * recipe.batch_size : step * recipe.batch_size]
        for line, truth in zip(asked, expected, strict=True):
            assert line["think"] is truth.think
            assert (line["emotion"], line["carrier"]) == (truth.emotion, truth.carrier)


def test_rewards_are_weighed(recipe):
    changed = recipe.model_copy(update={"rewards": {"format": 2.0, "length": 0.5, "label": 0.0}, "max_steps": 1})
    train_grpo(changed)
    [line] = history(changed)
    assert line["rewards/label/mean"] == -1.0
    assert line["reward"] == pytest.approx(2.0 * line["rewards/format/mean"] + 0.5 * line["rewards/length/mean"])


def test_no_reply_holds_a_placeholder(recipe, material):
    rows, config = questions(material), material.model.config
    wanted = torch.zeros(len(material.processor.tokenizer))
    wanted[[config.face_token_id, config.audio_token_id]] = 1000.0
    material.model.lm_head.register_forward_hook(lambda module, inputs, logits: logits + wanted)
    trainer = make_trainer(recipe, material, rows)
    trainer.model.train()
    batch = trainer._generate_and_score_completions(mixed(rows))
    assert not torch.isin(batch["completion_ids"], wanted.nonzero()).any()


def measured(line):
    return {key: value for key, value in line.items() if value is not None and key != "step_time"}


def test_an_interrupted_run_goes_on_as_an_unbroken_one(recipe, start, tmp_path):
    for steps in (1, 3):
        train_grpo(recipe.model_copy(update={"max_steps": steps}))
    whole = recipe.model_copy(update={"output": tmp_path / "whole"})
    train_grpo(whole)
    broken, unbroken = history(recipe), history(whole)
    assert [line["step"] for line in broken] == [1, 2, 3]
    for one, other in zip(broken, unbroken, strict=True):
        assert measured(one) == pytest.approx(measured(other), rel=1e-4, abs=1e-6)
    assert broken[1]["kl"] > 0
    for step in (1, 2, 3):
        name = f"replies/0000{step}-0.jsonl"
        assert (recipe.output / name).read_text() == (whole.output / name).read_text()
    first, second, before = (
        load_file(folder / "lora" / "adapter_model.safetensors") for folder in (recipe.output, whole.output, start)
    )
    for key, value in first.items():
        assert_close(value, second[key], rtol=1e-4, atol=1e-6)
    assert max((first[key] - before[key]).abs().max() for key in first) > 0.01


def test_only_lora_changes_and_what_was_trained_ships(recipe, parts, start, tmp_path):
    train_grpo(recipe)
    before, after = (load_file(folder / "adapters.safetensors") for folder in (start, recipe.output))
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert (recipe.output / "machine.json").exists()
    ship(recipe.output, parts.face_tower, tmp_path / "shipped")
    model, _ = merged(tmp_path / "shipped", parts.llm, parts.audio_encoder)
    ship(start, parts.face_tower, tmp_path / "old")
    old, _ = merged(tmp_path / "old", parts.llm, parts.audio_encoder)
    name = "model.language_model.layers.0.mlp.down_proj.weight"
    assert (model.state_dict()[name] - old.state_dict()[name]).abs().max() > 1e-3


def test_a_run_is_not_continued_with_other_questions(recipe):
    train_grpo(recipe.model_copy(update={"max_steps": 1}))
    (recipe.output / "train.jsonl").unlink()
    with pytest.raises(BadArgumentError, match="made with other records"):
        train_grpo(recipe.model_copy(update={"seed": 1}))


def test_records_that_cannot_be_asked_about(recipe):
    stage = recipe.stages[0].model_copy(update={"mix": {"identity": 1.0}})
    with pytest.raises(BadArgumentError, match="Only 0 of 48 records have an answer that opens with a label"):
        train_grpo(recipe.model_copy(update={"stages": [stage]}))


PERFECT = "<answer>{emotion}: the face shows {emotion}.</answer>"
SPAM = (
    "<answer>{emotion}: anger, fear, disgust, sadness, surprise, AU1, AU2, AU4, AU7, AU9, AU10, AU17, AU20.</answer>"
)
WRONG = "<answer>{other}: the face shows {other}.</answer>"
MALFORMED = "{emotion} {emotion}"


def test_a_perfect_reply_is_preferred_to_spam_and_both_to_nonsense(recipe, material, monkeypatch):
    """One group of forced replies each for three clips, all to be answered without a thought."""
    rows = [row for row in questions(material) if not Truth.from_json(row["truth"]).think]
    changed = recipe.model_copy(update={"rewards": {"format": 1.0, "label": 1.0, "words": 1.0}})
    trainer = make_trainer(changed, material, rows)
    tokenizer = material.processor.tokenizer
    batch = mixed(rows)
    said = [Truth.from_json(row["truth"]).emotion for row in batch]
    forced = [
        [
            *tokenizer.encode(text.format(emotion=emotion, other="fear" if emotion == "contempt" else "contempt")),
            tokenizer.eos_token_id,
        ]
        for text, emotion in zip([PERFECT, SPAM, WRONG, MALFORMED] * 3, said)
    ]
    monkeypatch.setattr(trainer, "_generate_single_turn", lambda *args, **kwargs: (forced, None))
    trainer.model.train()
    advantages = trainer._generate_and_score_completions(batch)["advantages"].view(3, 4)
    for perfect, spam, wrong, malformed in advantages.tolist():
        assert perfect > spam > malformed
        assert perfect > wrong > malformed
        assert perfect > 0 > malformed


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (["rewards={format: 1, luck: 1}"], "luck is none of format"),
        (["rewards={}"], "nothing is none of"),
        (["start_from="], "name start_from"),
        (["think_weight=2"], "think_weight of SFT means nothing here"),
        (["generations=1"], "wrong at 'generations'"),
        (["loss_type=magic"], "wrong at 'loss_type'"),
    ],
)
def test_mistakes_in_a_recipe_are_named(recipe, tmp_path, change, match):
    path = tmp_path / "grpo.yaml"
    path.write_text(recipe.model_dump_json(exclude_unset=True))
    with pytest.raises(BadArgumentError, match=match):
        load_recipe(GRPORecipe, path, change)
