"""Rollouts by vLLM: one engine on the generated model for all tests, as a run starts it, beside real trainers."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from emollm.errors import BadArgumentError
from emollm.serve import vllm_setup
from emollm.serve.vllm_setup import vllm_version
from emollm.train import grpo
from emollm.train.grpo import GRPORecipe, make_trainer, train_grpo
from emollm.train.grpo_questions import Truth, questions
from emollm.train.grpo_trainer import _states
from emollm.train.sft import composed_material

needs_vllm = pytest.mark.skipif(vllm_version() is None, reason="vLLM is not installed")
GENERATIONS, QUESTIONS = 4, 3


def make_recipe(output, data, parts, start) -> GRPORecipe:
    return GRPORecipe(
        output=output,
        llm=str(parts.llm),
        audio_encoder=str(parts.audio_encoder),
        face_tower=parts.face_tower,
        faces=[data / "faces" / "fake.npz"],
        voice_head=parts.voice_head,
        voices=data / "voices" / "emodb.npz",
        stages=[{"records": 48, "think_share": 0.5, "mix": {"emotion": 1.0}}],
        start_from=start,
        rewards={"length": 1.0, "format": 1.0},
        batch_size=QUESTIONS,
        generations=GENERATIONS,
        wanted_tokens=1,
        max_tokens=24,
        temperature=0.7,
        rollouts="vllm",
        learning_rate=0.05,  # a step must be enough to see
        warmup_steps=0,
        save_steps=1,
        max_steps=3,
        bf16=False,
    )


def first_token(completion_ids, **_):
    """Random weights write nothing that is worth more than the rest, so replies are told apart by how they begin."""
    return [ids[0] % 7 / 7 for ids in completion_ids]


@pytest.fixture(scope="module")
def rollouts(data, parts, start, tmp_path_factory):
    """As a run would start it."""
    recipe = make_recipe(tmp_path_factory.mktemp("engine"), data, parts, start)
    material = composed_material(recipe)
    grpo._prepare(recipe, material.model)
    rollouts = grpo._rollouts(recipe, material, questions(material))
    assert (rollouts.folder / "model" / "config.json").exists()
    yield rollouts
    rollouts.close()
    assert not rollouts.folder.exists()


@pytest.fixture
def recipe(tmp_path, data, parts, start, rollouts, monkeypatch):
    monkeypatch.setattr(grpo, "_rollouts", lambda *_: rollouts)
    monkeypatch.setattr(rollouts, "close", lambda: None)
    monkeypatch.setattr(grpo, "reward_function", lambda *_: first_token)
    return make_recipe(tmp_path / "run", data, parts, start)


def trainer_and_rows(recipe):
    """A group each of a clip without sound, one without a face, and one with both, with and without a thought."""
    material = composed_material(recipe)
    rows = questions(material)
    truths = [Truth.from_json(row["truth"]) for row in rows]
    kinds = [(present, think) for present in (["face"], ["voice"], ["face", "voice"]) for think in (True, False)]
    chosen = [next(row for row, truth in zip(rows, truths) if (truth.present, truth.think) == kind) for kind in kinds]
    return make_trainer(recipe, material, rows), chosen


def replies(trainer, rows, step=0):
    trainer._clips = trainer._examples(rows)
    trainer._media = _states(trainer._clips)
    trainer.state.global_step = step
    prompts = trainer._tokenize_prompts([row["prompt"] for row in rows])
    return trainer._generate_single_turn(*prompts, num_generations=1)


def greedy(trainer, rows, monkeypatch):
    """What vLLM replies, and what transformers does."""
    with monkeypatch.context() as patch:
        patch.setattr(trainer.rollouts, "temperature", 0.0)
        by_vllm, _ = replies(trainer, rows)
        patch.setattr(trainer, "rollouts", None)
        patch.setattr(trainer, "use_vllm", False)
        patch.setattr(trainer.generation_config, "do_sample", False)
        return by_vllm, replies(trainer, rows)[0]


@needs_vllm
def test_greedy_replies_are_those_of_transformers_before_and_after_a_step(recipe, monkeypatch):
    trainer, rows = trainer_and_rows(recipe.model_copy(update={"max_steps": 1}))
    before, expected = greedy(trainer, rows, monkeypatch)
    assert before == expected
    assert len(set(map(tuple, before))) == len(rows)  # replies depend on their clip
    trainer.train()
    after, expected = greedy(trainer, rows, monkeypatch)
    assert after == expected
    assert all(one != other for one, other in zip(before, after))


def log_of(run):
    lines = [line for line in json.loads((run / "log.json").read_text()) if "reward" in line]
    return [{key: value for key, value in line.items() if value is not None and key != "step_time"} for line in lines]


def log_probabilities(policy, clip, prompt, reply, temperature):
    """Of one reply alone, by the model's own forward, where no placeholder can be drawn."""
    ids, config = torch.tensor([[*prompt, *reply]]), policy.config
    with torch.no_grad():
        logits = policy(input_ids=ids, attention_mask=torch.ones_like(ids), **_states([clip])).logits
    logits = logits[0, len(prompt) - 1 : -1] / temperature
    logits[:, [config.face_token_id, config.audio_token_id]] = -torch.inf
    return logits.log_softmax(-1).gather(1, torch.tensor(reply)[:, None])[:, 0].tolist()


@needs_vllm
def test_at_every_step_vllm_draws_from_the_policy_of_that_step(recipe, rollouts, monkeypatch):
    """An old adapter, another temperature or a cut of the distribution would show."""
    generate, kept = rollouts.generate, []

    def checked(policy, clips, prompts, step):
        replies, scores = generate(policy, clips, prompts, step)
        for clip, prompt, reply, numbers in zip(clips, prompts, replies, scores, strict=True):
            now = log_probabilities(policy, clip, prompt, reply, recipe.temperature)
            assert numbers == pytest.approx(now, abs=1e-3)
            kept.append((step, clip, prompt, reply, now))
        return replies, scores

    monkeypatch.setattr(rollouts, "generate", checked)
    train_grpo(recipe)
    assert [step for step, *_ in kept] == [step for step in range(3) for _ in range(QUESTIONS * GENERATIONS)]
    lines = log_of(recipe.output)
    assert lines[0]["kl"] == 0.0
    assert lines[-1]["kl"] > 0.01
    for line in lines:
        assert 0 < line["sampling/importance_sampling_ratio/min"] <= 1.001  # less only by the share of placeholders
        assert line["sampling/importance_sampling_ratio/max"] == pytest.approx(1.0, abs=0.1)


@needs_vllm
def test_an_old_adapter_would_show(recipe, monkeypatch):
    """The bound of the test above is not so wide that it could not fail."""
    trainer, rows = trainer_and_rows(recipe.model_copy(update={"max_steps": 1}))
    old, scores = replies(trainer, rows)
    clips, (prompts, *_) = trainer._clips, trainer._tokenize_prompts([row["prompt"] for row in rows])
    trainer.train()
    for clip, prompt, reply, numbers in zip(clips, prompts, old, scores, strict=True):
        now = log_probabilities(trainer.model, clip, prompt, reply, recipe.temperature)
        assert numbers != pytest.approx(now, abs=1e-2)


@needs_vllm
def test_draws_depend_on_seed_and_step_alone(recipe, monkeypatch):
    trainer, rows = trainer_and_rows(recipe)
    group = [row for row in rows for _ in range(2)]
    drawn, scores = replies(trainer, group)
    again, same = replies(trainer, group)
    assert again == drawn
    assert same == scores
    assert replies(trainer, group, step=1)[0] != drawn
    assert drawn[::2] != drawn[1::2]  # of one group
    alone = replies(trainer, group[:4])[0]
    assert alone == drawn[:4]
    monkeypatch.setattr(trainer.rollouts, "seed", 7)
    assert replies(trainer, group)[0] != drawn


@needs_vllm
def test_more_prompts_than_vllm_reads_at_once(recipe, rollouts, monkeypatch):
    trainer, rows = trainer_and_rows(recipe)
    expected, _ = replies(trainer, rows)
    prompts, *_ = trainer._tokenize_prompts([row["prompt"] for row in rows])
    scheduler = rollouts.engine.engine_core.engine_core.scheduler
    monkeypatch.setattr(scheduler, "max_num_scheduled_tokens", max(map(len, prompts)) + 10)
    drawn, _ = replies(trainer, rows)
    assert drawn == expected


@needs_vllm
def test_a_reply_ends_with_the_end_token_or_at_its_length(recipe, rollouts, monkeypatch):
    monkeypatch.setattr(rollouts, "temperature", 2.0)
    trainer, rows = trainer_and_rows(recipe)
    end, config = trainer.eos_token_ids, trainer.model.config
    ended = 0
    for step in range(40):
        drawn, scores = replies(trainer, [row for row in rows for _ in range(2)], step)
        for reply, numbers in zip(drawn, scores):
            assert len(reply) == len(numbers) <= recipe.max_tokens
            assert not set(reply[:-1]) & set(end)
            assert reply[-1] in end or len(reply) == recipe.max_tokens
            assert not set(reply) & {config.face_token_id, config.audio_token_id}
            ended += len(reply) < recipe.max_tokens
        if ended:
            return
    pytest.fail("No reply ended by itself.")


@needs_vllm
def test_an_interrupted_run_goes_on_as_an_unbroken_one(recipe, tmp_path):
    for steps in (1, 3):
        train_grpo(recipe.model_copy(update={"max_steps": steps}))
    whole = recipe.model_copy(update={"output": tmp_path / "whole"})
    train_grpo(whole)
    for one, other in zip(log_of(recipe.output), log_of(whole.output), strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-6)
    for step in (1, 2, 3):
        name = f"replies/0000{step}-0.jsonl"
        assert (recipe.output / name).read_text() == (whole.output / name).read_text()
    first, second = (load_file(run.output / "lora" / "adapter_model.safetensors") for run in (recipe, whole))
    for key, value in first.items():
        assert_close(value, second[key], rtol=1e-4, atol=1e-6)


def test_without_vllm_one_sentence_says_how_to_get_it(data, parts, start, tmp_path, monkeypatch):
    monkeypatch.setattr(vllm_setup, "find_spec", lambda name: None)
    with pytest.raises(BadArgumentError, match="pip install"):
        train_grpo(make_recipe(tmp_path / "run", data, parts, start))
    assert not (tmp_path / "run").exists()


def test_several_processes_are_refused(data, parts, start, tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "WORLD_SIZE", "2")
    with pytest.raises(BadArgumentError, match="run in one process"):
        train_grpo(make_recipe(tmp_path / "run", data, parts, start))


def test_a_temperature_that_vllm_does_not_know_is_refused(data, parts, start, tmp_path):
    recipe = make_recipe(tmp_path / "run", data, parts, start).model_dump(exclude_unset=True)
    with pytest.raises(ValueError, match="temperatures up to 2"):
        GRPORecipe(**recipe | {"temperature": 2.5})
