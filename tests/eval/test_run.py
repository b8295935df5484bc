import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scripted import FACES, ScriptedPredictor, cards, make_samples

from emollm.emotions import EMOTIONS
from emollm.errors import BadArgumentError, WeightsError
from emollm.eval import run as run_module
from emollm.eval.keep import Shard, join, shard_of
from emollm.eval.run import run

CARD = cards("emotion")


def lines_of(folder: Path) -> list[dict]:
    return [json.loads(text) for text in (folder / "samples.jsonl").read_text().splitlines()]


def timeless(folder: Path) -> list[dict]:
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines_of(folder)]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    run(make_samples(), ScriptedPredictor(), CARD, folder, batch_size=4)
    return folder


def test_every_sample_has_a_line_and_thoughts_come_first(unbroken):
    samples = make_samples()
    lines = lines_of(unbroken)
    assert sorted(line["id"] for line in lines) == sorted(sample.id for sample in samples)
    following = [sample.id for sample in samples if sample.thought_of]
    assert following
    assert [line["id"] for line in lines[-len(following) :]] == following


def test_a_line_says_what_was_replied(unbroken):
    line = next(line for line in lines_of(unbroken) if line["id"] == "s00")
    assert line["status"] == "ok"
    assert line["label"] == "happiness"
    assert line["claimed"] == {"AU12": 3.0, "AU6": None}
    assert line["raw"].startswith("<think>")
    assert tuple(line["distribution"]) == EMOTIONS
    assert len(line["prompt_sha256"]) == 64


def test_what_goes_wrong_is_told_by_name_and_changes_nothing_else(unbroken):
    lines = {line["id"]: line for line in lines_of(unbroken)}
    assert lines["broken"]["status"] == "failed"
    assert lines["broken"]["error"] == "broken.mp4 cannot be read."  # without the folder
    assert lines["crash"]["error"] == "Unexpected ZeroDivisionError (division by zero)."
    assert lines["voice"]["status"] == "skipped"
    assert lines["rambling"]["status"] == "unparsed"
    assert lines["rambling"]["error"] == "unclosed <think>"
    assert lines["rambling"]["label"] is None
    assert all(line["status"] == "ok" for id, line in lines.items() if id.startswith("s"))


def test_a_thought_is_gone_on_from(unbroken):
    lines = {line["id"]: line for line in lines_of(unbroken)}
    thought = lines["s00"]["raw"].split("<answer>")[0]
    assert lines["s00/thought"]["raw"] == f"{thought}<answer>sadness: from the thought.</answer>"
    assert lines["rambling/thought"]["status"] == "skipped"
    assert "rambling" in lines["rambling/thought"]["error"]


def test_labels_are_put_in_the_words_of_the_benchmark(tmp_path):
    card = cards("emotion", answers=["happy", "sadness"], answer_map={"happiness": "happy", "anger": None})
    samples = make_samples()[: len(FACES)]
    found = {line.id: line.label for line in run(samples, ScriptedPredictor(), card, tmp_path, batch_size=3)}
    named = {"happiness": "happy", "sadness": "sadness"}
    assert found == {sample.id: named.get(FACES[i]) for i, sample in enumerate(samples)}


def test_without_thinking_a_thought_breaks_the_grammar(tmp_path):
    (line,) = run(make_samples()[:1], ScriptedPredictor(always_thinks=True), CARD, tmp_path, think=False)
    assert (line.status, line.error) == ("unparsed", "unexpected <think>")


def test_a_predictor_that_cannot_think_is_not_asked_to(tmp_path):
    class Plain:
        name = "plain"

        def describe(self):
            return {}

        def prepare(self, sample, question):
            return sample.id

        def answer(self, prepared, think):
            from emollm.eval.schema import Reply

            assert not think
            return [Reply(text="<answer>neutral: as ever.</answer>") for _ in prepared]

    samples = [sample for sample in make_samples() if sample.id.startswith("s00")]
    assert [(line.id, line.status) for line in run(samples, Plain(), CARD, tmp_path)] == [
        ("s00", "ok"),
        ("s00/thought", "skipped"),
    ]


def test_missing_weights_end_the_run(tmp_path):
    predictor = ScriptedPredictor()
    predictor.prepare = lambda sample, question: (_ for _ in ()).throw(WeightsError("No weights."))
    with pytest.raises(WeightsError):
        run(make_samples(), predictor, CARD, tmp_path)
    assert lines_of(tmp_path) == []


def test_a_torn_line_and_the_rest_of_its_batch_are_asked_again(unbroken, tmp_path):
    samples = make_samples()
    run(samples, ScriptedPredictor(), CARD, tmp_path, batch_size=4)
    file = tmp_path / "samples.jsonl"
    whole = file.read_bytes()
    kept = whole.split(b"\n")
    file.write_bytes(b"\n".join(kept[:7]) + kept[7][:40])  # one whole batch, two lines and a half
    asked: list[list[str]] = []
    run(samples, ScriptedPredictor(asked), CARD, tmp_path, batch_size=4)
    assert asked[0][0] == json.loads(kept[4])["id"]
    assert timeless(tmp_path) == timeless(unbroken)
    assert file.read_bytes().split(b"\n")[:4] == kept[:4]


def test_a_finished_run_asks_nothing(tmp_path):
    samples = make_samples()
    first = run(samples, ScriptedPredictor(), CARD, tmp_path, batch_size=4)
    asked: list[list[str]] = []
    progress: list[tuple[int, int]] = []
    again = run(
        samples, ScriptedPredictor(asked), CARD, tmp_path, batch_size=4, on_progress=lambda *now: progress.append(now)
    )
    assert asked == []
    assert again == first
    assert progress == [(len(samples), len(samples))]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"batch_size": 5}, "batch_size"),
        ({"think": False}, "think"),
        ({"predictor": ScriptedPredictor(version="2")}, "predictor.version"),
        ({"samples": make_samples()[:-1]}, "samples"),
        ({"card": cards("emotion", question="What?")}, "benchmark.question"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_run_with_other_settings_is_not_gone_on_with(change, named, tmp_path):
    def call(samples, predictor, card, **settings):
        run(samples, predictor, card, tmp_path, **settings)

    arguments = {"samples": make_samples(), "predictor": ScriptedPredictor(), "card": CARD, "batch_size": 4}
    call(**arguments)
    before = (tmp_path / "samples.jsonl").read_bytes()
    with pytest.raises(BadArgumentError, match=rf"other settings \({named}\)"):
        call(**(arguments | change))
    assert (tmp_path / "samples.jsonl").read_bytes() == before


def test_moved_data_are_the_same_samples(tmp_path):
    def samples(folder: Path, text: str) -> list:
        folder.mkdir()
        (folder / "clip.mp4").write_text(text)
        return [make_samples()[0].model_copy(update={"clip": folder / "clip.mp4"})]

    out = tmp_path / "out"
    first = run(samples(tmp_path / "here", "abc"), ScriptedPredictor(), CARD, out)
    assert run(samples(tmp_path / "there", "abc"), ScriptedPredictor(), CARD, out) == first
    with pytest.raises(BadArgumentError, match=r"other settings \(samples\)"):
        run(samples(tmp_path / "other", "abcd"), ScriptedPredictor(), CARD, out)


def test_lines_say_which_code_replied(tmp_path, monkeypatch):
    samples = make_samples()
    monkeypatch.setattr(run_module.provenance, "commit_tag", lambda: "first")
    run(samples, ScriptedPredictor(), CARD, tmp_path, batch_size=4)
    file = tmp_path / "samples.jsonl"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:4]))
    monkeypatch.setattr(run_module.provenance, "commit_tag", lambda: "second")
    lines = run(samples, ScriptedPredictor(), CARD, tmp_path, batch_size=4)
    assert [line.commit for line in lines] == ["first"] * 4 + ["second"] * (len(samples) - 4)


def test_lines_without_their_settings_are_not_gone_on_with(tmp_path):
    run(make_samples(), ScriptedPredictor(), CARD, tmp_path)
    (tmp_path / "settings.json").unlink()
    with pytest.raises(BadArgumentError, match="other settings"):
        run(make_samples(), ScriptedPredictor(), CARD, tmp_path)


def test_ids_must_differ(tmp_path):
    samples = make_samples()
    with pytest.raises(BadArgumentError, match="2 samples have the id s00"):
        run([*samples, samples[0]], ScriptedPredictor(), CARD, tmp_path)


def test_two_runs_do_not_write_into_one_folder(tmp_path):
    class Nested(ScriptedPredictor):
        def answer(self, prepared, think):
            with pytest.raises(BadArgumentError, match="Another run"):
                run(make_samples(), ScriptedPredictor(), CARD, tmp_path)
            return super().answer(prepared, think)

    run(make_samples()[:1], Nested(), CARD, tmp_path)


def test_shards_join_to_the_whole(unbroken, tmp_path):
    samples = make_samples()
    for number in (2, 3, 1):
        assert join(samples, tmp_path, 3) is None
        shard = Shard(number, 3)
        run(shard_of(samples, shard), ScriptedPredictor(), CARD, tmp_path, batch_size=4, shard=shard)
    lines = join(samples, tmp_path, 3)
    assert timeless(tmp_path) == timeless(unbroken)
    assert [line.model_dump(mode="json") for line in lines] == lines_of(tmp_path)
    asked: list[list[str]] = []
    run(samples, ScriptedPredictor(asked), CARD, tmp_path, batch_size=4)  # the joined run is a finished one
    assert asked == []


def test_shards_of_different_settings_are_not_joined(tmp_path):
    samples = make_samples()
    for number in (1, 2):
        shard = Shard(number, 2)
        predictor = ScriptedPredictor(version=str(number))
        run(shard_of(samples, shard), predictor, CARD, tmp_path, shard=shard)
    with pytest.raises(BadArgumentError, match=r"predictor\.version"):
        join(samples, tmp_path, 2)


def test_preparation_keeps_a_bounded_distance(tmp_path):
    prepared: set[str] = set()

    class Watching(ScriptedPredictor):
        def prepare(self, sample, question):
            prepared.add(sample.id)
            return super().prepare(sample, question)

        def answer(self, asked, think):
            time.sleep(0.05)  # long enough for the other threads to run as far ahead as they may
            assert len(prepared) <= len(done) + (1 + run_module.AHEAD) * 2
            replies = super().answer(asked, think)
            done.extend(asked)
            return replies

    done: list = []
    run(make_samples()[: len(FACES)], Watching(), CARD, tmp_path, batch_size=2)
    assert len(done) == len(FACES)


def test_a_run_killed_ten_times_ends_like_an_unbroken_one(tmp_path):
    """Killed without warning at random points, each time after it has written something."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    samples = make_samples(80)
    run(samples, ScriptedPredictor(), CARD, whole, batch_size=2)
    script = [sys.executable, str(Path(__file__).with_name("scripted.py")), str(broken)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    file, chance = broken / "samples.jsonl", random.Random(0)

    def size() -> int:
        return file.stat().st_size if file.exists() else 0

    for _ in range(10):
        before = size()
        process = subprocess.Popen(script, env=environment)
        while size() <= before:
            assert process.poll() is None
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.03))
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert size() < (whole / "samples.jsonl").stat().st_size
    subprocess.run(script, env=environment, check=True)
    assert timeless(broken) == timeless(whole)
