"""Which questions rest, for how long, and how much the others count; then the same inside GRPO."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from emollm.errors import BadArgumentError
from emollm.train import grpo
from emollm.train.grpo import GRPORecipe, train_grpo
from emollm.train.schedule import FILE, Schedule, ScheduleRecipe, earned, utility

NAN = float("nan")
WEIGHTS = torch.tensor([1.0])
GOOD, BAD, MIXED, RARE, MISSED = (
    torch.tensor(group)[:, None]
    for group in ([1.0] * 4, [-1.0] * 4, [1.0, 1.0, -1.0, -1.0], [1.0, -1.0, -1.0, -1.0], [1.0, 1.0, 1.0, -1.0])
)


def worth(group) -> float:
    return utility(earned(group[None], WEIGHTS)).item()


def test_what_a_group_can_teach():
    assert worth(GOOD) == worth(BAD) == 0
    assert worth(MIXED) == pytest.approx(0.5**0.5)  # spread 1, headroom a half
    assert worth(RARE) == pytest.approx((0.75 * 0.75**0.5) ** 0.5)
    assert worth(MISSED) < worth(MIXED) < worth(RARE) <= 1
    assert 0 < worth(0.1 * MIXED) < 0.1


def test_rewards_that_do_not_apply_or_do_not_weigh_are_left_out():
    weights = torch.tensor([1.0, 3.0, 0.0])
    group = torch.tensor([[[1.0, NAN, -1.0], [-1.0, 1.0, -1.0], [NAN, NAN, 1.0]]])
    assert earned(group, weights).tolist() == [[1.0, 0.5, 0.0]]


def ask(schedule, groups, count=2):
    """One step; groups by question, MIXED where none is named."""
    chosen = schedule.choose(count)
    learned = schedule.learn(torch.stack([groups.get(question, MIXED) for question in chosen]), WEIGHTS)
    return chosen, learned.tolist()


def test_solved_and_hopeless_questions_rest_and_come_back():
    schedule = Schedule(ScheduleRecipe(rest=2), 6)
    groups = {1: GOOD, 4: BAD}
    asked = [ask(schedule, groups)[0] for _ in range(3)]
    assert asked == [[0, 1], [2, 3], [4, 5]]
    figures = schedule.figures()
    assert (figures["resting"], figures["solved"], figures["hopeless"]) == (2, 1, 1)
    assert figures["utility"] == pytest.approx(4 / 6 * worth(MIXED))
    assert [ask(schedule, groups)[0] for _ in range(4)] == [[0, 2], [3, 5], [0, 2], [3, 5]]
    assert schedule.figures()["resting"] == 0
    assert [ask(schedule, {4: BAD})[0] for _ in range(3)] == [[0, 1], [2, 3], [4, 5]]
    figures = schedule.figures()
    assert (figures["resting"], figures["solved"], figures["hopeless"]) == (1, 1, 2)  # 1 is worth asking again


def test_one_useless_visit_does_not_retire_a_question_that_was_useful():
    schedule = Schedule(ScheduleRecipe(memory=0.5, retire_below=0.2), 2)
    for group, rests in [(MIXED, 0), (GOOD, 0), (GOOD, 1)]:
        ask(schedule, {0: group})
        assert bool(schedule.rests[0]) is bool(rests)
    assert schedule.known[0] == pytest.approx(worth(MIXED) / 4)


def test_a_group_that_hardly_differs_counts_less():
    schedule = Schedule(ScheduleRecipe(full_above=0.5), 4)
    _, counts = ask(schedule, {1: 0.1 * MIXED, 2: GOOD}, count=4)
    assert counts == pytest.approx([1, worth(0.1 * MIXED) / 0.5, 0, 1], rel=1e-6)


def test_a_step_is_full_and_of_different_questions_even_when_all_rest():
    schedule = Schedule(ScheduleRecipe(rest=5), 5)
    for _ in range(20):
        chosen, _ = ask(schedule, dict.fromkeys(range(5), GOOD), count=4)
        assert len(set(chosen)) == 4
    with pytest.raises(ValueError, match="6 different questions cannot be chosen from 5"):
        schedule.choose(6)


@pytest.fixture
def recipe(tmp_path, data, parts, start, monkeypatch):
    """GRPO of six questions; random weights are told apart by the first token of a reply."""

    def first_token(name, *limits):
        def reward(completion_ids, **_):
            return [ids[0] % 5 / 2 - 1 for ids in completion_ids]

        reward.__name__ = name
        return reward

    monkeypatch.setattr(grpo, "reward_function", first_token)
    return GRPORecipe(
        output=tmp_path / "run",
        llm=str(parts.llm),
        audio_encoder=str(parts.audio_encoder),
        face_tower=parts.face_tower,
        faces=[data / "faces" / "fake.npz"],
        voice_head=parts.voice_head,
        voices=data / "voices" / "emodb.npz",
        stages=[{"records": 6, "think_share": 0.5, "mix": {"emotion": 1.0}}],
        start_from=start,
        rewards={"label": 1.0},
        batch_size=2,
        generations=3,
        max_tokens=8,
        beta=0.0,
        learning_rate=0.05,
        warmup_steps=0,
        save_steps=1,
        max_steps=5,
        bf16=False,
    )


def scheduled(recipe, output, **settings):
    changes = {"output": output, "schedule": ScheduleRecipe(**settings)}
    return recipe.model_copy(update=changes)


def replies(recipe):
    return [file.read_text().splitlines() for file in sorted((recipe.output / "replies").iterdir())]


def state(recipe, step):
    return json.loads((recipe.output / "checkpoints" / f"checkpoint-{step}" / FILE).read_text())


def test_a_schedule_asks_for_as_many_replies_and_one_that_retires_nothing_changes_nothing(recipe, tmp_path):
    recipe = recipe.model_copy(update={"seed": 2})  # by which the replies to one question earn differently
    idle = scheduled(recipe, tmp_path / "idle", retire_below=0.0, full_above=1e-9)
    busy = scheduled(recipe, tmp_path / "busy", retire_below=0.99, rest=1)
    for each in (recipe, idle, busy):
        train_grpo(each)
    assert [len(step) for step in replies(recipe)] == [6] * 5
    assert replies(idle) == replies(recipe)
    assert [len(step) for step in replies(busy)] == [6] * 5
    assert replies(busy)[0] == replies(recipe)[0]
    assert replies(busy)[4] != replies(recipe)[4]
    lora = [load_file(each.output / "lora" / "adapter_model.safetensors") for each in (recipe, idle, busy)]
    for key, value in lora[0].items():
        assert_close(value, lora[1][key], rtol=1e-4, atol=1e-6)
    assert max((lora[0][key] - lora[2][key]).abs().max() for key in lora[0]) > 1e-3
    log = [line for line in json.loads((busy.output / "log.json").read_text()) if "reward" in line]
    assert [line["schedule/resting"] for line in log][:3] == [2, 4, 6]
    assert log[-1]["schedule/solved"] + log[-1]["schedule/hopeless"] == 10  # every visit was followed by a rest
    assert all(0 <= line["schedule/weight"] <= 1 and 0 <= line["schedule/utility"] <= 1 for line in log)


def test_a_group_that_counts_nothing_teaches_nothing(recipe, start, monkeypatch):
    monkeypatch.setattr(Schedule, "learn", lambda self, rewards, weights: torch.zeros(len(rewards)))
    changed = scheduled(recipe.model_copy(update={"max_steps": 2}), recipe.output)
    train_grpo(changed)
    before, after = (load_file(at / "lora" / "adapter_model.safetensors") for at in (start, changed.output))
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_the_schedule_goes_on_with_an_interrupted_run(recipe, tmp_path):
    settings = {"retire_below": 0.7, "rest": 1}  # so high that some of a random model's questions rest
    broken, whole = (scheduled(recipe, tmp_path / name, **settings) for name in ("broken", "whole"))
    for steps in (2, 5):
        train_grpo(broken.model_copy(update={"max_steps": steps}))
    train_grpo(whole)
    assert replies(broken) == replies(whole)
    assert state(broken, 5) == state(whole, 5)
    assert state(whole, 5)["solved"] + state(whole, 5)["hopeless"] > 0


def test_a_run_without_a_schedule_is_not_continued_with_one(recipe):
    train_grpo(recipe.model_copy(update={"max_steps": 1}))
    with pytest.raises(BadArgumentError, match="begun without a schedule"):
        train_grpo(scheduled(recipe, recipe.output))
