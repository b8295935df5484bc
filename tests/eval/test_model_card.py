"""The model card: every figure of it comes out of a file, and what no file holds is said to be missing."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from replies import card, lines, sample, says

from emollm.eval.model_card import CARD, FOLDER, RESULTS, TRAINING, main, model_card
from emollm.eval.results import write_results
from emollm.eval.score import Score, Subgroups
from emollm.eval.trained import FaceScores, Source, Stage, Training, Variant


def training(**changes) -> Training:
    fields = {
        "trained": datetime(2026, 11, 28, 12, tzinfo=UTC),
        "commit": "0123456789abcdef",
        "hardware": {"cpu": "Abacus", "cores": "2"},
        "parameters": {"face_tower": 3_512_345},
        "image_size": 80,
        "stages": {
            "face": Stage(
                recipe={"epochs": 9, "start_from": None}, seed=7, steps=3210, chosen_step=2140, hours=1.5,
                hours_from="checkpoints", core_hours=3.0,
            ),
            "face_start": Stage(recipe={"backbone": True}, seed=5, steps=100),
            "sft": Stage(recipe={"lora_rank": 13}, seed=0),
        },
        "sources": {"ferplus": Source(train=28_385, valid=3_555)},
        "face": {
            "ferplus": FaceScores(
                faces=3555, war=(0.8412, 0.83, 0.85), uar=(0.6543, 0.61, 0.69),
                per_class={"contempt": {"recall": 0.1875, "count": 16}},
            ),
            "renders-ict": FaceScores(
                faces=600, au_f1=(0.7654, 0.75, 0.78), au_mae=0.4321,
                per_au={"AU1": {"f1": 0.91, "r": 0.81}, "AU6": {"f1": 0.31, "r": 0.27}, "AU7": {"f1": 0.2, "r": None}},
            ),
        },
        "folds": {"war": 0.82, "uar": 0.81, "war_low": 0.77, "war_high": 0.87, "telephone_uar": 0.6789},
    }  # fmt: skip
    return Training.model_validate(fields | changes)


def result(
    folder: Path, name: str = "ferplus", think: bool = True, right: int = 3, date: str = "2026-11-28T15:00:00Z"
):
    """A result of four samples, as the runner writes it."""
    asked = [sample(f"{name}{at}", "anger") for at in range(4)]
    said = [says("anger" if at < right else "sadness") for at in range(4)]
    bench = card(name=name, title=f"Toy {name}")
    found = write_results(
        folder / name, bench, asked, lines(bench, asked, said, folder / name), {"think": think}, [],
        model="emollm-tiny", command=f"__main__.py eval {name}", seed=5,
    )  # fmt: skip
    return found.model_copy(update={"date": date, "commit": "fedcba9876543210", "dirty": False})


@pytest.fixture
def shipped(tmp_path):
    """Folder with ``training.json`` and folder with two results."""
    training().save(tmp_path / "tiny" / TRAINING)
    kept = tmp_path / "results"
    kept.mkdir()
    for name, think, right in (("ferplus", True, 3), ("emodb", False, 1)):
        found = result(tmp_path / "runs", name, think, right)
        (kept / f"{name}--emollm-tiny.json").write_text(found.model_dump_json())
    return tmp_path / "tiny", kept


def write(shipped, *more: str) -> int:
    return main(["--folder", str(shipped[0]), "--results", str(shipped[1]), *more])


def row(text: str, start: str) -> str:
    found = [line for line in text.splitlines() if line.startswith(start)]
    assert len(found) == 1, f"{start}: {found}"
    return found[0]


def test_figures_of_training_appear_as_given():
    text = model_card(training(), [])
    assert "3,512,345" in row(text, "| face tower |")
    assert "80 px" in row(text, "| face tower |")
    assert "LoRA of rank 13" in row(text, "| language model |")
    assert "| 28,385 | 3,555 faces |" in row(text, "| FER+ |")
    assert row(text, "| face | `") == (
        "| face | `train/tiny/face.yaml` | 7 | 3,210 | 2,140 | 1.50 (by the speed between two checkpoints) "
        "| 3.00 core-hours (Abacus, 2 cores) |"
    )
    assert row(text, "| face_start |").startswith("| face_start | `train/tiny/face_start.yaml` | 5 | 100 | last |")
    assert "epochs: 9" in text
    assert "start_from" not in text
    assert "| 3,555 | 84.1 (83.0–85.0) | 65.4 (61.0–69.0) |" in row(text, "| ferplus |")
    assert "contempt 18.8 (of 16)" in text
    assert "| 76.5 (75.0–78.0) | 0.43 |" in row(text, "| renders-ict |")
    assert row(text, "| AU6 |") == "| AU6 | 31.0 | 0.27 |"
    assert "| 82.0 (77.0–87.0) | 81.0 |" in row(text, "| each of ten speakers left out")
    assert row(text, "| the same, telephone |").endswith("| not measured | 67.9 |")
    assert "commit 012345678" in text


def test_a_language_model_tuned_on_another_tower_is_told():
    ran = {"face": Stage(recipe={"output": "b"}, seed=0), "sft": Stage(recipe={"face_tower": "a"}, seed=0)}
    assert "tuned on the states of another face tower (a)" in model_card(training(stages=ran), [])
    ran["sft"] = Stage(recipe={"face_tower": "b"}, seed=0)
    assert "another face tower" not in model_card(training(stages=ran), [])
    ran["sft_start"] = Stage(recipe={"face_tower": "c"}, seed=0)
    assert "In sft_start the language model was tuned on the states of another face tower (c)" in model_card(
        training(stages=ran), []
    )


def test_a_stage_on_a_gpu_costs_its_minutes():
    engine = {"cpu": "Loom", "cores": "16", "gpu": "Engine"}
    stage = Stage(recipe={}, seed=0, steps=400, hours=0.052, hours_from="log", hardware=engine, gpu_minutes=3.12)
    text = model_card(training(stages={"sft": stage}), [])
    assert row(text, "| sft |").endswith("| 400 | last | 0.05 | 3.1 GPU-minutes (Engine) |")
    assert "written down on Abacus, 2 cores, at commit 012345678" in text


def test_what_is_missing_is_said_to_be_not_measured():
    text = model_card(training(face={}, folds=None), [])
    assert row(text, "| voice | not") == "| voice" + " | not measured" * 6 + " |"
    assert text.count("\nNot measured.\n") == 7  # no benchmark was run
    assert "people apart: not\nmeasured." in text
    assert row(text, "| EmoDB (10").count("not measured") == 3
    assert "Pearson" not in text
    assert "not measured" in row(model_card(training(), []), "| AU7 |")  # a measurement without a correlation


def test_limits_name_their_figures(tmp_path):
    text = model_card(training(), [result(tmp_path, right=1)])
    assert "these Action Units are weak (Pearson r below 0.5): AU6 0.27." in text
    assert "it finds anger 25.0 %" in text
    assert "The voice head's UAR over left-out speakers is 81.0 % as recorded, 67.9 % under telephone." in text
    strong = training()
    strong.face["renders-ict"].per_au["AU6"].r = 0.7
    text = model_card(strong, [result(tmp_path / "better", right=4)])
    assert "the weakest Action Unit is AU6: Pearson r 0.70." in text
    assert "finds at least half of every kind of FER+ faces" in text


def test_an_answer_is_held_against_the_tower_alone(tmp_path):
    found = result(tmp_path, right=3)
    for alone, held in ((0.8, "5.0 points fewer"), (0.7, "5.0 points more"), (0.75, "as many")):
        scores = [one for one in found.scores.scores if one.name != "tower_war"]
        found.scores.scores = [*scores, Score(name="tower_war", value=alone, n=4)]
        assert f"the face tower alone on {100 * alone:.1f} %: {held}." in model_card(training(), [found])


def test_results_with_their_command_commit_and_seed(shipped):
    assert write(shipped) == 0
    text = (shipped[0] / CARD).read_text(encoding="utf-8")
    assert "### Toy ferplus" in text
    assert "| 75.0 (" in row(text.split("### Toy ferplus")[1].split("### ")[0], "| war |")
    assert row(text, "| emodb, no-think |") == (
        "| emodb, no-think | all | 4 |  | 5 | fedcba987 | 2026-11-28 | `emollm eval emodb` |"
    )
    assert "| not measured | 25.0 (" in row(text.split("### Toy emodb")[1].split("### ")[0], "| war |")


def test_a_figure_of_nothing_is_another_thing_than_one_not_measured(tmp_path):
    found, other = result(tmp_path), result(tmp_path, "ferplus", think=False)
    empty = Score(name="support_precision", value=None, n=4)
    found.scores.scores += [empty.model_copy(update={"value": 0.5})]
    for both, cell in (([found], "not measured"), ([found, other], "nothing to count")):
        other.scores.scores = [one for one in other.scores.scores if one.name != "support_precision"] + [empty]
        assert (
            row(model_card(training(), both), "| support_precision |") == f"| support_precision | 50.0 | {cell} | 4 |"
        )


def test_groups_are_shown_with_their_gap(tmp_path):
    found = result(tmp_path)
    score = found.scores.scores[0]
    groups = {"16": score.model_copy(update={"value": 0.625, "low": None, "high": None})}
    found.scores.subgroups = [Subgroups(field="speaker", metric="war", groups=groups, gap=score, small=[])]
    text = model_card(training(), [found])
    assert "| war by speaker | thinking | no-think | n |" in text
    assert row(text, "| 16 |") == "| 16 | 62.5 | not measured | 4 |"
    assert row(text, "| gap |").startswith("| gap | 75.0")


def test_results_of_weights_of_before_are_left_out(tmp_path):
    old = result(tmp_path, date="2026-11-28T11:00:00+00:00")
    text = model_card(training(), [old])
    assert "measured before these weights were trained: ferplus." in text
    assert "| war |" not in text


def test_towers_for_comparison():
    other = Variant(
        about="trained on Anny heads only", source="renders-ict", scores={"faces": 9, "au_f1": (0.5, 0.4, 0.6)}
    )
    text = model_card(training(variants=[other]), [])
    assert "| renders-ict | 9 | not measured | not measured | 50.0 (40.0–60.0) |" in row(text, "| trained on Anny")


def test_check_notices_a_changed_figure(shipped, capsys):
    assert write(shipped, "--check") == 1  # no card yet
    assert write(shipped) == 0
    assert write(shipped, "--check") == 0
    file = shipped[0] / TRAINING
    changed = json.loads(file.read_text())
    changed["face"]["ferplus"]["war"][0] = 0.8512
    file.write_text(json.dumps(changed))
    before = (shipped[0] / CARD).read_text(encoding="utf-8")
    assert write(shipped, "--check") == 1
    assert "python -m emollm.eval.model_card" in capsys.readouterr().err
    assert (shipped[0] / CARD).read_text(encoding="utf-8") == before


def test_without_its_files_it_says_what_to_do(shipped, capsys):
    (shipped[1] / "refusal--emollm-tiny.json").write_text("{}")
    assert write(shipped) == 2
    assert "is no result" in capsys.readouterr().err
    (shipped[0] / TRAINING).unlink()
    assert write(shipped) == 2
    assert "python -m emollm.train.collect" in capsys.readouterr().err


@pytest.mark.skipif(not (FOLDER / TRAINING).exists(), reason="the shipped weights have no training.json yet")
def test_the_committed_card_is_what_its_files_give():
    assert main(["--check", "--folder", str(FOLDER), "--results", str(RESULTS)]) == 0
