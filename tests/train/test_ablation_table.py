"""What the tables of an ablation say of results made by hand."""

import json

import numpy as np
import pytest

from emollm.eval.cards import BenchmarkCard
from emollm.eval.results import write_results
from emollm.eval.schema import Line, Sample, Truth
from emollm.train.ablation_table import Group, tabulate
from emollm.train.curves import Curve, _aligned, draw, smooth

LABELS = ["anger", "sadness"]
ASKED: dict[str, dict[str, float]] = {"a": {}, "b": {"fit": 1.0}}  # questions, and rewards of some beside the label's


def evaluated(run, right: int, commit: str = "first"):
    """A run on 40 samples, the first ``right`` of which it has right and the last of which cannot be read."""
    card = BenchmarkCard(name="toy", title="Toy", task="emotion", data=[], answers=LABELS, metrics=["war"])
    samples = [
        Sample(id=f"s{at:02}", clip=f"{at}.png", truth=Truth(emotion=LABELS[at % 2]), groups={}) for at in range(40)
    ]
    lines = [
        Line(id=f"s{at:02}", status="ok", label=LABELS[(at + (at >= right)) % 2], commit=commit) for at in range(39)
    ]
    lines.append(Line(id="s39", status="unparsed", error="no answer"))
    out = run / "toy"
    out.mkdir(parents=True)
    (out / "samples.jsonl").write_text("".join(line.model_dump_json() + "\n" for line in lines))
    write_results(out, card, samples, lines, {}, [], model=run.name, split="valid")


def trained(run, rewards):
    """A log as transformers writes it, and two replies a step."""
    lines = [
        {"step": at + 1, "reward": value, "rewards/label/mean": None if at == 1 else value, "num_tokens": 10.0 * at}
        for at, value in enumerate(rewards)
    ]
    run.mkdir(parents=True, exist_ok=True)
    (run / "log.json").write_text(json.dumps([*lines, {"step": len(lines), "train_loss": 0.1}]))
    (run / "replies").mkdir()
    for line in lines:
        (run / "replies" / f"{line['step']:05d}-0.jsonl").write_text("{}\n{}\n")


@pytest.fixture
def groups(tmp_path):
    start = Group("start", "SFT only", [tmp_path / "start"])
    good = Group("good", "+ label", [tmp_path / "good" / seed for seed in ("seed0", "seed1", "seed2")])
    same = Group("same", "+ nothing", [tmp_path / "same" / seed for seed in ("seed0", "seed1", "seed2")], "good")
    evaluated(start.folders[0], 10)
    for folder, right in zip([*good.folders, *same.folders], (28, 32, 36, 10, 10)):  # the last is not there yet
        evaluated(folder, right)
        trained(folder, [0.0, 0.5, 1.0])
    return [start, good, same]


def test_scores_differences_and_what_training_took(groups):
    found = tabulate(groups, [("toy", True), ("toy-no-think", False)])
    [source] = found.sources
    assert (source.benchmark, source.split, source.n) == ("toy", "valid", 40)
    values = {entry.variant: {score.name: score for score in entry.scores} for entry in found.scores}
    assert list(values) == ["start", "good", "same"]
    assert values["start"]["war"].value == 0.25
    assert values["good"]["war"].value == pytest.approx(0.8)
    assert (values["good"]["war"].seeds, values["same"]["war"].seeds) == (3, 2)
    assert values["good"]["parse_failures"].value == pytest.approx(1 / 40)
    assert all(entry.think for entry in found.scores)
    pairs = {(entry.variant, entry.against): entry.scores[0] for entry in found.differences}
    assert set(pairs) == {("good", "start"), ("same", "start"), ("same", "good")}
    assert pairs["good", "start"].difference == pytest.approx(0.55)
    assert pairs["same", "start"].difference == 0
    assert pairs["same", "good"].difference == pytest.approx(-0.55)
    assert [(run.variant, run.steps, run.replies, run.tokens) for run in found.trained] == [
        *[("good", 3, 6, 20)] * 3, *[("same", 3, 6, 20)] * 2,
    ]  # fmt: skip
    assert found.trained[0].last == {"reward": 0.5, "rewards/label/mean": 0.5}
    [curve] = [c for c in found.curves if (c.name, c.variant, c.run) == ("rewards/label/mean", "good", "seed0")]
    assert (curve.steps, curve.values) == ([1, 3], [0.0, 1.0])


def test_every_commit_that_replied_is_named_once(tmp_path):
    start, other = Group("start", "SFT only", [tmp_path / "start"]), Group("other", "+ label", [tmp_path / "other"])
    evaluated(start.folders[0], 10)
    evaluated(other.folders[0], 10, "second")
    assert tabulate([start, other], [("toy", True)]).sources[0].commits == ["first", "second"]


def test_rewards_of_questions_that_were_asked_again_but_not_under_a_schedule(groups):
    for group, line in ((groups[1], {}), (groups[2], {"schedule/resting": 1.0})):
        run = group.folders[0]
        for step, value in ((1, 0.25), (3, 0.75)):
            replies = [{"question": name, "rewards": {"label": value} | also} for name, also in ASKED.items()]
            (run / "replies" / f"{step:05d}-0.jsonl").write_text(
                "".join(json.dumps(reply) + "\n" for reply in replies)
            )
        log = json.loads((run / "log.json").read_text())
        (run / "log.json").write_text(json.dumps([each | line for each in log]))
    [grid] = [grid for grid in tabulate(groups, [("toy", True)]).grids() if "asked" in grid.title]
    assert grid.header == ["variant", "run", "fit", "label"]
    assert grid.rows == [
        ["+ label", "seed0", "1.00 → 1.00 (1 question)", "0.25 → 0.75, **+0.50** (0.50 to 0.50)"],
    ]


def test_the_text_says_it_and_marks_what_is_sure(groups, tmp_path):
    found = tabulate(groups, [("toy", True)])
    text = found.markdown()
    rows = {tuple(cells[:2]): cells for line in text.splitlines() if len(cells := line.strip("| ").split(" | ")) > 3}
    assert rows["SFT only", "yes"][2] == "1"
    assert rows["SFT only", "yes"][3].startswith("25.0 (")
    assert rows["+ label", "SFT only"][3].startswith("**+55.0** (")
    assert rows["+ nothing", "SFT only"][3] == "+0.0 (0.0 to 0.0)"
    assert rows["+ nothing", "+ label"][3].startswith("**-55.0** (")
    written = found.write(tmp_path / "tables")
    assert json.loads((tmp_path / "tables" / "ablation.json").read_text()) == found.model_dump(mode="json")
    assert len(written) == 3


def test_without_anything_finished_there_are_empty_tables(tmp_path):
    found = tabulate([Group("start", "SFT only", [tmp_path])], [("toy", True)])
    assert (found.scores, found.differences, found.trained) == ([], [], [])
    assert "SFT only" not in found.markdown()
    assert draw(found.curves, found.about).startswith(b"\x89PNG")


def test_curves_are_smoothed_and_bands_are_over_the_steps_that_all_runs_have():
    assert smooth(np.arange(12.0)).tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5.5, 6.5]
    one, other = (
        Curve(name="reward", variant="a", run=run, steps=steps, values=values)
        for run, steps, values in (("x", [1, 2, 3], [0, 2, 4]), ("y", [1, 3], [4, 8]))
    )
    steps, values = _aligned([one, other])
    assert steps == [1, 3]
    assert values.tolist() == [[0, 2], [4, 6]]
