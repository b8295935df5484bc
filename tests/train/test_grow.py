"""A model explains clips, what holds is kept, and two steps are trained on it."""

import json
import os
import signal
from multiprocessing import get_context
from pathlib import Path

import pytest
import tiny
import yaml
from media.conftest import write_clip
from tiny import make_scripted, make_speech, make_tiny

from emollm.cli import main
from emollm.data import clip_states
from emollm.data.explain import answer, thought
from emollm.data.facts import Facts
from emollm.data.schema import Labels, Record, Turn, read_file, write_file
from emollm.data.validate import validate_file
from emollm.errors import BadArgumentError
from emollm.serve.engine import Generation
from emollm.train.grow import grow
from emollm.train.grow_filter import DISAGREE, GRAMMAR, LABEL
from emollm.train.grow_recipe import GrowRecipe, read_clips
from emollm.train.recipe import load_recipe
from emollm.train.sft import SFTRecipe, train_sft
from emollm.voice.prosody import measure_prosody

RECIPES = Path(__file__).parents[2] / "train" / "tiny"
VOICE = measure_prosody(make_speech(1.5)).summary()


def explained(label: str) -> str:
    """What training data says of a voice."""
    facts = Facts(label, [], VOICE, label)
    return f"{thought(facts)}<answer>{answer(facts)}</answer>"


class Drawing:
    """Draws one of some replies by the seed alone; dies when it has answered ``batches`` times."""

    name = "drawing"

    def __init__(self, replies: list[str], batches: int = 1000):
        self.replies, self.batches, self.requests = replies, batches, []

    def describe(self) -> dict[str, str]:
        return {"engine": self.name, "checkpoint_sha256": "0" * 64}

    def generate_batch(self, requests, think):
        assert think
        if self.batches == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.batches -= 1
        self.requests += requests
        return [
            Generation(self.replies[request.seed % len(self.replies)], {"happiness": 0.8, "sadness": 0.2})
            for request in requests
        ]


MIXED = [explained("happiness"), explained("happiness"), explained("sadness"), "What a day."]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def clips(tmp_path, monkeypatch) -> Path:
    """Records about voices: ten, every third unlabelled, one broken, and one that is for validation."""
    monkeypatch.setattr(clip_states, "cache_dir", lambda: tmp_path / "cache")
    records = []
    (tmp_path / "clips").mkdir()
    for number in range(12):
        clip = tmp_path / "clips" / f"{number}.wav"
        if number == 4:
            clip.write_text("no sound")
        else:
            write_clip(clip, sound=make_speech(1.5), rate=16000, audio="pcm_s16le")
        labels = Labels() if number % 3 == 2 else Labels(emotion=("happiness", "sadness")[number % 2])
        records.append(
            Record(
                id=f"clip {number}",
                messages=[Turn(role="user", content="<audio>How?"), Turn(role="assistant", content="no")],
                audios=[f"clips/{number}.wav"],
                labels=labels,
                label_origin=dict.fromkeys(labels.given(), "human"),
                split="valid" if number == 11 else "train" if number else None,
                speaker=str(number),
                licence="mine",
                terms="agreed",
            )
        )
    write_file(tmp_path / "mine.jsonl", [*records, records[0]])  # a clip that several dialogues are about
    return tmp_path / "mine.jsonl"


def recipe(clips: Path, model: Path, name: str = "grown", **changes) -> GrowRecipe:
    how = {"candidates": 3, "batch_size": 4, "agreement": 0.6, **changes}
    return GrowRecipe(output=clips.parent / name, clips=clips, model=model, **how)


def outputs(folder: Path) -> dict[str, str]:
    names = ("records.jsonl", "candidates.jsonl", "rejected.jsonl", "report.json", "settings.json")
    return {name: (folder / name).read_text() for name in names}


def test_what_passes_is_kept_with_its_scores_and_its_origin(clips, model):
    engine = Drawing(MIXED)
    grown = grow(recipe(clips, model), engine=engine)
    assert (grown.clips, grown.candidates) == (11, 30)
    assert [problem.id for problem in grown.problems] == ["clip 4"]
    assert set(grown.rejected) == {GRAMMAR, LABEL, DISAGREE}
    assert len({request.seed for request in engine.requests}) == 30
    assert {request.temperature for request in engine.requests} == {0.8}
    kept = read_file(clips.parent / "grown" / "records.jsonl")
    assert kept == grown.records
    assert 3 < len(kept) < 10
    before = {record.id: record for record in read_file(clips)}
    for record in kept:
        source = before[record.id.removesuffix("#grown")]
        assert source.split in (None, "train")
        assert record.messages[-1].content in MIXED
        assert record.messages[0].content.startswith("<audio>")
        assert record.think
        assert record.labels.emotion in (
            source.labels.emotion,
            *(() if source.labels.emotion else ("happiness", "sadness")),
        )
        assert record.label_origin == {"messages": "pseudo", "emotion": "human" if source.labels.emotion else "pseudo"}
        assert set(record.scores) == {"agreement", "confidence", "score"}
        assert record.scores["confidence"] == {"happiness": 0.8, "sadness": 0.2}[record.labels.emotion]
        assert record.written_by["checkpoint_sha256"] == "0" * 64
        assert record.written_by["temperature"] == "0.8"
        assert record.written_by["commit"]
        assert (record.licence, record.terms, record.speaker) == ("mine", "agreed", source.speaker)
        assert (clips.parent / "grown" / record.audios[0]).is_file()
    assert {record.label_origin["emotion"] for record in kept} == {"human", "pseudo"}
    assert validate_file(clips.parent / "grown" / "records.jsonl").faults == []


def test_reports_name_every_rejection(clips, model):
    grown = grow(recipe(clips, model), engine=Drawing(MIXED))
    report = json.loads((clips.parent / "grown" / "report.json").read_text())
    rejected = [json.loads(line) for line in (clips.parent / "grown" / "rejected.jsonl").read_text().splitlines()]
    assert report["rejected"] == dict(grown.rejected)
    assert sum(report["rejected"].values()) == len(rejected)
    assert (report["clips"], report["kept"], list(report["unreadable"])) == (11, len(grown.records), ["clip 4"])
    for one in rejected:
        assert one["text"] in MIXED
        assert (one["reason"] == GRAMMAR) == (one["text"] == MIXED[-1])
        assert one["detail"]


def test_a_seed_decides_everything(clips, model):
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        grow(recipe(clips, model, name, seed=seed), engine=Drawing(MIXED))
    one, same, other = (outputs(clips.parent / name) for name in ("one", "same", "other"))
    assert one == same
    assert one["candidates.jsonl"] != other["candidates.jsonl"]


def test_a_run_killed_between_batches_ends_like_an_unbroken_one(clips, model):
    grow(recipe(clips, model, "whole"), engine=Drawing(MIXED))
    broken = recipe(clips, model, "broken")
    file = broken.output / "candidates.jsonl"
    for done in (0, 4, 8):
        process = get_context("fork").Process(
            target=grow, args=(broken,), kwargs={"engine": Drawing(MIXED, 1 if done else 0)}
        )
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
        assert len(file.read_text().splitlines()) == done
        assert not (broken.output / "records.jsonl").exists()
    whole = (clips.parent / "whole" / "candidates.jsonl").read_text().splitlines(keepends=True)
    with file.open("a") as torn:  # killed while it wrote
        torn.write(whole[8] + whole[9][:20])
    engine = Drawing(MIXED)
    seen = []
    grow(broken, engine=engine, on_progress=lambda *at: seen.append(at))
    assert len(engine.requests) == 3 * 3  # the last three clips
    assert seen == [(8, 11), (11, 11)]
    assert outputs(broken.output) == outputs(clips.parent / "whole")


def test_other_demands_need_no_other_candidates_but_other_settings_another_folder(clips, model):
    many = grow(recipe(clips, model, agreement=0.1), engine=Drawing(MIXED))
    idle = Drawing(MIXED)
    few = grow(recipe(clips, model, agreement=1.0), engine=idle)
    assert not idle.requests
    assert len(few.records) < len(many.records)
    assert few.rejected[DISAGREE] > many.rejected[DISAGREE] == 0
    with pytest.raises(BadArgumentError, match="temperature"):
        grow(recipe(clips, model, temperature=0.5), engine=idle)


def test_where_nothing_passes_no_earlier_records_stay(clips, model):
    file, folder = clips.parent / "grown" / "records.jsonl", clips.parent / "clips"
    assert grow(recipe(folder, model, candidates=12, agreement=0.1), engine=Drawing(MIXED)).records
    assert file.exists()
    assert not grow(recipe(folder, model, candidates=12, agreement=1.0), engine=Drawing(MIXED)).records
    assert not file.exists()


def test_a_folder_of_clips_and_records_to_join(clips, model):
    (clips.parent / "clips" / "4.wav").unlink()
    labelled = read_file(clips)[0]
    how = {"join": clips, "agreement": 0.5}
    grown = grow(recipe(clips.parent / "clips", model, **how), engine=Drawing(MIXED))
    assert {record.label_origin["emotion"] for record in grown.records} == {"pseudo"}
    both = read_file(clips.parent / "grown" / "records.jsonl")
    assert len(both) == 13 + len(grown.records)
    assert both[0].labels == labelled.labels
    assert Path(both[0].audios[0]).is_absolute()
    assert {record.id for record in grown.records} <= {f"{number}.wav#grown" for number in range(12)}


def test_one_candidate_is_greedy_and_needs_labels(clips, model):
    with pytest.raises(BadArgumentError, match="3 clips have no label, and one candidate has nothing to agree with"):
        grow(recipe(clips, model, candidates=1), engine=Drawing(MIXED))
    write_file(clips, [record for record in read_file(clips) if record.labels.emotion])
    engine = Drawing(MIXED)
    grow(recipe(clips, model, candidates=1), engine=engine)
    assert {request.temperature for request in engine.requests} == {0.0}


def test_what_cannot_be_grown_from(clips, model):
    write_file(clips, [record for record in read_file(clips) if record.split == "valid"])
    with pytest.raises(BadArgumentError, match="no clip of the split train"):
        read_clips(clips)
    with pytest.raises(BadArgumentError, match="server"):
        grow(recipe(clips.parent / "clips", model, engine="http://localhost:1/v1"))


def test_every_key_of_a_recipe_is_explained_with_its_default():
    text = (RECIPES / "grow.yaml").read_text()
    given = yaml.safe_load(text.replace("# join:", "join:").replace("# model:", "model:"))
    fields = GrowRecipe.model_fields
    assert set(given) == set(fields)
    assert {key: given[key] for key in yaml.safe_load(text) if key not in ("output", "clips")} == {
        key: field.default for key, field in fields.items() if field.default is not None and not field.is_required()
    }


def test_the_command_and_two_steps_on_what_it_keeps(clips, tmp_path, monkeypatch, capfd):
    pieces = explained("happiness").partition("<answer>")
    inside = pieces[0].removeprefix("<think>").removesuffix("</think>\n")
    label, rest = pieces[2].removesuffix("</answer>").split(":", 1)
    script = ("<think>", inside, "</think>", "<answer>", label, f":{rest}", "</answer>")
    monkeypatch.setattr(tiny, "SCRIPT", script)
    model = make_scripted(tmp_path / "model")
    write_file(clips, [record for record in read_file(clips)[:8] if record.labels.emotion])
    monkeypatch.chdir(tmp_path)
    command = ["data", "grow", str(RECIPES / "grow.yaml"), f"clips={clips}", f"model={model}", "candidates=1"]

    def run(*more: str) -> int:
        with pytest.raises(SystemExit) as stop:
            main([*command, *more])
        return int(stop.value.code or 0)

    assert run("engine=transformers", "output=grown") == 0
    said = capfd.readouterr()
    assert "clip 4" in said.err
    for words in ("2 of 6 clips explained", "pass", LABEL, "messages pseudo 2"):
        assert words in said.out
    (first, *_) = kept = read_file(Path("grown/records.jsonl"))
    assert len(kept) == 2
    assert first.messages[-1].content == explained("happiness")
    assert first.written_by["model"] == str(model)
    assert first.written_by["engine"] == "transformers"
    assert 0 < first.scores["confidence"] <= 1

    changes = ["records=grown/records.jsonl", f"model={model}", "max_steps=2", "batch_size=2", "lora_rank=2"]
    scores = train_sft(load_recipe(SFTRecipe, RECIPES / "finetune.yaml", changes))
    assert scores["train_loss"] > 0
    assert Path("runs/finetune/model/model.safetensors").exists()

    assert run("engine=transformers", "output=strict", "candidates=2", "temperature=50.0") != 0
    assert "No explanation passed" in capfd.readouterr().err


def test_an_override_without_a_value_is_an_error(capfd):
    with pytest.raises(SystemExit):
        main(["data", "grow", str(RECIPES / "grow.yaml"), "seed"])
    assert "key=value" in capfd.readouterr().err
