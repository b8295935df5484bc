"""docs/finetune.md, done as it says: from a folder of labelled clips to a model that loads and answers."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from media.conftest import write_clip
from PIL import Image
from safetensors.torch import load_file
from tiny import make_speech, make_tiny

from emollm import EmoLLM
from emollm.cli import main
from emollm.data import clip_states
from emollm.data.schema import read_file
from emollm.errors import BadArgumentError, WeightsError
from emollm.model.processing_emollm import AUDIO_TOKEN, FACE_TOKEN
from emollm.train import own
from emollm.train.collate import IGNORED, ClipCollator
from emollm.train.recipe import load_recipe
from emollm.train.sft import SFTRecipe, train_sft
from emollm.weights import fetch

CHECKOUT = Path(__file__).parents[1]
RECIPE = CHECKOUT / "train" / "tiny" / "finetune.yaml"


def documented() -> list[list[str]]:
    block = (CHECKOUT / "docs" / "finetune.md").read_text(encoding="utf-8").split("```sh\n")[1].split("```")[0]
    return [shlex.split(line) for line in block.strip().split("\n")]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    try:
        fetch("face_landmarker", progress=False)
    except WeightsError as error:
        pytest.skip(f"the face landmarker is not in reach: {error}")
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def workplace(tmp_path, tiny, monkeypatch) -> Path:
    """A folder with clips of three people, where the embedded default is a tiny model."""
    for module in (clip_states, own):
        monkeypatch.setattr(module, "default_model", lambda: tiny)
    monkeypatch.setattr(clip_states, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    face = np.ascontiguousarray(skimage.data.astronaut()[:256, 96:352])
    for person in ("ann", "bob", "cem"):
        for label in ("happy", "sad"):
            (tmp_path / "clips" / label / person).mkdir(parents=True)
        sound = {"sound": make_speech(1.5), "rate": 16000}
        write_clip(tmp_path / "clips" / "sad" / person / "1.wav", audio="pcm_s16le", **sound)
        Image.fromarray(face).save(tmp_path / "clips" / "happy" / person / "1.png")
    times = np.arange(0, 1.5, 0.2).tolist()
    write_clip(
        tmp_path / "clips" / "happy" / "ann" / "2.mp4", times=times, pictures=[face] * len(times), size=(256, 256),
        sound=make_speech(1.5), rate=16000,
    )  # fmt: skip
    (tmp_path / "clips" / "sad" / "bob" / "broken.mp4").write_text("no film")
    return tmp_path


def command(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return int(stop.value.code or 0)


def test_five_commands_lead_to_a_model_that_answers(workplace, tiny, capfd):
    prepare, validate, explain, train, serve = [words[1:] for words in documented()]
    assert command(prepare) == 0
    assert "broken.mp4" in capfd.readouterr().err
    assert len(read_file(Path("mine.jsonl"))) == 7
    assert {record.split for record in read_file(Path("mine.jsonl"))} == {"train", "valid", "test"}
    assert command(validate) == 0
    assert command(explain) == 0
    records = read_file(Path("train.jsonl"))
    assert {record.labels.emotion for record in records} == {"happiness", "sadness"}
    assert command(["data", "validate", "train.jsonl"]) == 0
    capfd.readouterr()
    train[train.index("train/tiny/finetune.yaml")] = str(RECIPE)
    assert command([*train, "max_steps=2", "batch_size=12", "lora_rank=2", "learning_rate=0.05"]) == 0
    scores = json.loads(capfd.readouterr().out.strip().split("\n")[-1])
    assert scores["train_loss"] > 0
    assert scores["eval_loss"] > 0
    assert serve[0] == "serve"
    folder = Path(serve[serve.index("--model") + 1])
    before, after = (load_file(model / "model.safetensors") for model in (tiny, folder))
    changed = {key.split(".")[1] for key in before if not torch.equal(before[key], after[key])}
    assert {"face_adapter", "audio_adapter", "language_model"} <= changed
    assert not changed & {"face_tower", "audio_tower", "voice_head"}
    report = EmoLLM.from_pretrained(folder).analyze("clips/happy/ann/2.mp4")
    assert report.answer
    assert report.people[0].timeline
    assert (workplace / "runs" / "mine" / "log.json").exists()


def test_batches_of_real_clips(workplace, tiny):
    """Placeholders and states agree in number, also where a face or a voice is held back."""
    prepare, _, explain, *_ = [words[1:] for words in documented()]
    assert command(prepare) == 0
    assert command([*explain, "--per-clip", "8"]) == 0
    encoder = clip_states.ClipEncoder()
    processor = clip_states.load_checkpoint(tiny)[1]
    records = read_file(Path("train.jsonl"))
    film = next(record for record in records if record.videos)
    records += [film.model_copy(update={"id": part, "without": part}) for part in ("face", "voice")]
    collate = ClipCollator(processor, encoder, workplace)
    batch = collate([{"record": record.model_dump_json()} for record in records])
    faces, sounds = torch.where(batch["face_window_s"] > 0, 117, 33), torch.full((len(records),), 6)
    for name, token, symbols in (("face_states", FACE_TOKEN, faces), ("audio_states", AUDIO_TOKEN, sounds)):
        placeholders = (batch["input_ids"] == processor.tokenizer.convert_tokens_to_ids(token)).sum(1)
        windows = (~batch[name].isnan().any(-1)).sum(1)
        assert torch.equal(placeholders, torch.where(windows > 0, windows + 3 + symbols, 0))
        modality = "face" if name == "face_states" else "voice"
        for record, count in zip(records, placeholders.tolist()):
            assert record.without != modality or count == 0
        assert (placeholders > 0).any()
    for record, ids, labels in zip(records, batch["input_ids"], batch["labels"]):
        learned = processor.tokenizer.decode(ids[labels != IGNORED])
        assert learned == record.messages[-1].content + "<|im_end|>"


def test_other_records_need_another_output(workplace):
    prepare, _, explain, *_ = [words[1:] for words in documented()]
    assert command(prepare) == 0
    assert command(explain) == 0
    recipe = load_recipe(SFTRecipe, RECIPE, ["max_steps=1", "batch_size=2", "lora_rank=2"])
    train_sft(recipe)
    train_sft(recipe)  # the same again is no error
    assert command([*explain, "--seed", "1"]) == 0
    with pytest.raises(BadArgumentError, match="other records"):
        train_sft(recipe)


def test_a_recipe_names_one_kind_of_material(tmp_path):
    with pytest.raises(BadArgumentError, match="records"):
        load_recipe(SFTRecipe, RECIPE, ["face_tower=somewhere"])
    empty = tmp_path / "empty.yaml"
    empty.write_text("output: runs/x\n")
    with pytest.raises(BadArgumentError, match="either records"):
        load_recipe(SFTRecipe, empty)
