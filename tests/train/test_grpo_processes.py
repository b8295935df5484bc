"""GRPO in two processes, as torchrun (or `accelerate launch` on GPUs) starts them."""

import json

from launch import in_two_processes


def test_two_processes_share_the_questions_and_keep_one_schedule(data, parts, start, tmp_path):
    content = {
        "output": str(tmp_path / "run"), "llm": str(parts.llm), "audio_encoder": str(parts.audio_encoder),
        "face_tower": str(parts.face_tower), "faces": [str(data / "faces" / "fake.npz")],
        "voice_head": str(parts.voice_head), "voices": str(data / "voices" / "emodb.npz"),
        "stages": [{"records": 8, "think_share": 0.5, "mix": {"emotion": 1.0}}], "start_from": str(start),
        "rewards": {"length": 1.0, "format": 1.0}, "batch_size": 2, "generations": 3, "wanted_tokens": 1,
        "max_tokens": 24, "temperature": 3.0, "learning_rate": 0.02, "warmup_steps": 0, "save_steps": 2,
        "max_steps": 4, "schedule": {"retire_below": 0.2, "rest": 1},
    }  # fmt: skip
    in_two_processes("emollm.train.grpo", content, tmp_path)

    run = tmp_path / "run"
    names = [f"{step:05d}-{process}.jsonl" for step in (1, 2, 3, 4) for process in (0, 1)]
    assert sorted(file.name for file in (run / "replies").iterdir()) == names
    replies = [[json.loads(line) for line in (run / "replies" / name).read_text().splitlines()] for name in names]
    assert [len(each) for each in replies] == [6] * 8  # two questions of three replies in each process
    log = [line for line in json.loads((run / "log.json").read_text()) if "reward" in line]
    for line, first, second in zip(log, replies[::2], replies[1::2], strict=True):
        of_both = [reply["rewards"]["length"] for reply in [*first, *second]]
        assert abs(line["rewards/length/mean"] - sum(of_both) / 12) < 1e-6
    assert log[0]["kl"] == 0
    state = json.loads((run / "checkpoints" / "checkpoint-4" / "schedule.json").read_text())
    assert None not in state["known"]  # eight questions, four a step
