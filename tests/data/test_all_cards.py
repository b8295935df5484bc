"""Every card that the project ships: what it must say, and that the readers understand its layout.

For each data set a folder in its released layout is made, some files of a few bytes, from :mod:`released`.
"""

from pathlib import Path

import pytest
from released import SETS, Files

from emollm.data.cards import card_names, load_data_card
from emollm.data.prepare import prepare
from emollm.data.readers import Reading, Row, read_rows
from emollm.data.validate import validate_file
from emollm.emotions import EMOTIONS
from emollm.eval import measures
from emollm.eval.cards import load_benchmark
from emollm.eval.samples import benchmark_samples
from emollm.eval.wording import WORDING_METRICS

# tested with the data at hand, and with renders (test_synthesize.py)
OF_OTHERS = {"ferplus", "emodb", "london", "ict_facekit", "renders"}


# What cards say ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", card_names("data"))
def test_data_card_says_where_from_and_on_which_terms(name: str) -> None:
    card = load_data_card(name)
    assert card.name == name
    assert card.modalities
    for said in (card.title, card.paper, card.get, card.licence, card.terms):
        assert len(said.strip()) > 2


@pytest.mark.parametrize("name", card_names("eval"))
def test_benchmark_card_fits_its_data(name: str) -> None:
    card = load_benchmark(name)
    assert card.name == name
    sets = [load_data_card(data) for data in card.data]
    assert sets or card.probe
    labels = {label for data in sets for label in data.labels.values()}
    if card.task == "sentiment":
        labels = {"negative", "neutral", "positive"}
    assert set(card.answers) <= labels
    for split in filter(None, (card.split, card.calibration)):
        assert all(split in data.splits for data in sets)


@pytest.mark.parametrize("name", card_names("eval"))
def test_every_label_of_the_model_is_an_answer_or_said_to_be_none(name: str) -> None:
    card = load_benchmark(name)
    if card.answers:
        for label in EMOTIONS:
            answer = card.answer_map.get(label, label)
            assert answer in card.answers or (label in card.answer_map and answer is None), label
    assert set(card.answer_map) <= set(EMOTIONS)


@pytest.mark.parametrize("name", card_names("eval"))
def test_published_figures_have_a_source_and_a_metric_of_the_card(name: str) -> None:
    card = load_benchmark(name)
    assert len(set(card.metrics)) == len(card.metrics)
    for figure in card.published:
        assert len(figure.source) > 10
        assert figure.metrics
        assert set(figure.metrics) <= set(card.metrics)


@pytest.mark.parametrize("name", card_names("eval"))
def test_metrics_are_known(name: str) -> None:
    card = load_benchmark(name)
    numbers = (*measures.LABEL_METRICS, *measures.AU_METRICS, *measures.NUMBER_METRICS, "sentiment_waf")
    sureness = (*measures.CONFIDENCE_METRICS, *measures.SUPPORT_METRICS, *measures.RATES)
    assert card.probe or set(card.metrics) <= {*numbers, *sureness, *WORDING_METRICS}


def test_the_field_is_covered() -> None:
    wanted = "rafdb affectnet ravdess cremad dfew mafw ferv39k meld iemocap mer2023 emer disfa bp4d fea20k dfec mosei"
    wanted += " bah affwild2 mer_unibench_ovmerd mer_unibench_mosi mer_unibench_meld"
    assert set(wanted.split()) <= set(card_names("eval"))


# How sets lie on disk ------------------------------------------------------------------------------------------------


def read(name: str, files: Files, root: Path) -> Reading:
    """Lay the files of a set out and read them by its card."""
    card = load_data_card(name)
    for path, content in files.items():
        file = root / card.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
    return read_rows(card, root, unpack=root / "unpacked")


def seen(row: Row, like: object) -> object:
    """The label of a row that is of the same kind as the expected one."""
    labels = row.labels
    if isinstance(like, tuple):
        return labels["valence"], labels["arousal"]
    if isinstance(like, dict):
        return labels["aus"]
    if isinstance(like, set):
        return {code for code, value in labels["aus"].items() if value}
    if isinstance(like, float):
        return labels["sentiment"]
    return labels.get("emotion", labels.get("emotions", labels.get("text")))


@pytest.mark.parametrize("name", sorted(set(card_names("data")) - OF_OTHERS))
def test_the_readers_understand_the_released_layout(name: str, tmp_path: Path) -> None:
    files, expected = SETS[name]()
    card = load_data_card(name)
    reading = read(name, files, tmp_path)

    assert not reading.problems
    rows = {row.id: row for row in reading.rows}
    assert set(rows) == set(expected)
    for id, (label, split, fold) in expected.items():
        assert seen(rows[id], label) == label
        assert rows[id].fields.get("split") == split
        assert (rows[id].fields[card.folds] if card.folds else None) == fold
        assert rows[id].clip.is_file()


@pytest.mark.parametrize("name", sorted(SETS))
def test_every_set_becomes_training_records(name: str, tmp_path: Path) -> None:
    read(name, SETS[name]()[0], tmp_path)
    out = tmp_path / "records.jsonl"
    prepared = prepare(load_data_card(name), tmp_path, out, media=False)
    assert {record.id for record in prepared.records} == set(SETS[name]()[1])
    assert all(record.labels.given() for record in prepared.records)
    assert validate_file(out, media=False, shared_people=name == "meld").faults == []


@pytest.mark.parametrize("name", [name for name in card_names("eval") if set(load_benchmark(name).data) <= set(SETS)])
def test_a_benchmark_finds_something_to_ask_about(name: str, tmp_path: Path) -> None:
    card = load_benchmark(name)
    for data in card.data:
        read(data, SETS[data]()[0], tmp_path)
    asked = benchmark_samples(card, tmp_path, unpack=tmp_path / "unpacked")
    assert asked.samples
    assert not asked.problems
    assert all(sample.truth.emotion in (None, *card.answers) for sample in asked.samples) or not card.answers


def test_numbers_are_put_on_the_scale_of_samples(tmp_path: Path) -> None:
    for name, id, valence in (("mer2023", "sample_1", -1.0), ("iemocap", "Ses05M_script01_1b_F000", -0.25)):
        rows = {row.id: row for row in read(name, SETS[name]()[0], tmp_path).rows}
        assert rows[id].labels["valence"] == valence


def test_what_is_said_is_read_whole(tmp_path: Path) -> None:
    first = next(row for row in read("bah", SETS["bah"]()[0], tmp_path).rows if "82711" in row.id)
    assert first.transcript == '"Hello?" Well, I said, "no.'
    assert first.fields["speaker"] == "82711"


@pytest.mark.parametrize(("name", "people"), [("disfa", 27), ("bp4d", 41)])
def test_parts_for_cross_validation_share_no_person(name: str, people: int) -> None:
    parts = [part["speaker"] for part in load_data_card(name).splits.values()]
    assert len(parts) == 3
    assert sum(map(len, parts)) == len({person for part in parts for person in part}) == people
