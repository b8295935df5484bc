"""The data cards that are shipped, and how cards are found and refused."""

from __future__ import annotations

import re
import string
import tomllib
from pathlib import Path

import pytest

from emollm.data import cards
from emollm.data.cards import (
    DataCard,
    FolderLayout,
    FrameLayout,
    LineLayout,
    ParquetLayout,
    card_folder,
    card_names,
    find_card,
    load_data_card,
)
from emollm.data.labels import LABEL_FIELDS
from emollm.errors import BadArgumentError

NAMES = card_names("data")
CHECKOUT = Path(__file__).parents[2]


def fields_of(card: DataCard) -> set[str]:
    """The fields that rows of a card have."""
    layout = card.layout
    match layout:
        case FolderLayout():
            return set(re.compile(layout.pattern).groupindex)
        case FrameLayout():
            return {"frame", *re.compile(layout.labels).groupindex, *layout.columns} - {layout.au_group}
        case LineLayout():
            return {*re.compile(layout.files).groupindex, *re.compile(layout.line).groupindex}
        case ParquetLayout():
            return {"id", *layout.columns}
    return {"file", *layout.columns}


def test_the_sets_at_hand_have_cards():
    assert {"ferplus", "emodb", "london", "ict_facekit"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
class TestShippedCards:
    def test_loads_under_its_own_name(self, name):
        card = load_data_card(name)
        assert card.name == name
        assert all((card.title, card.paper, card.get, card.licence, card.terms, card.modalities, card.folder))
        assert "\n" not in card.get.strip()

    def test_splits_folds_and_groups_use_fields_that_rows_have(self, name):
        card = load_data_card(name)
        split_by = {card.split_by.field} - {"id"} if card.split_by else set()
        of_splits = {key for conditions in card.splits.values() for key in conditions}
        used = split_by | of_splits | ({card.folds, *card.groups} - {None})
        assert used <= fields_of(card)

    def test_splits_accept_no_value_twice(self, name):
        """A value that two splits accept is in the first only, which nobody would expect of two lists."""
        for field in {key for conditions in load_data_card(name).splits.values() for key in conditions}:
            lists = [c[field] for c in load_data_card(name).splits.values() if set(c) == {field}]
            values = [value for accepted in lists for value in accepted]
            assert len(values) == len(set(values))

    def test_path_templates_use_fields_that_rows_have(self, name):
        layout = load_data_card(name).layout
        template = {"frames": "image", "lines": "clip"}.get(layout.kind)
        if template:
            used = {part[1] for part in string.Formatter().parse(getattr(layout, template)) if part[1]}
            assert used <= fields_of(load_data_card(name))

    def test_a_set_says_what_it_is_labelled_with(self, name):
        card = load_data_card(name)
        aus = getattr(card.layout, "aus", {})
        assert all(code.startswith("AU") and code[2:].isdigit() for code in aus)
        labelled = fields_of(card) & LABEL_FIELDS or aus or getattr(card.layout, "au_group", None)
        assert labelled or getattr(card.layout, "votes", None) or name == "ict_facekit"
        if card.labels:
            assert fields_of(card) & {"emotion", "emotions"} or getattr(card.layout, "votes", None)

    def test_ships_in_the_wheel(self, name):
        assert wheel_target(find_card("data", name)) == "share/emollm/data"


def wheel_target(path: Path) -> str | None:
    data_files = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["setuptools"]["data-files"]
    targets = [t for t, globs in data_files.items() if any(path in CHECKOUT.glob(pattern) for pattern in globs)]
    return targets[0] if targets else None


def test_benchmarks_and_recipes_ship_in_the_wheel():
    for room in ("eval", "train"):
        for path in (CHECKOUT / room).rglob("*.yaml"):
            assert wheel_target(path) == f"share/emollm/{path.parent.relative_to(CHECKOUT).as_posix()}"


def test_a_card_is_found_by_name_or_path(tmp_path):
    assert find_card("data", "emodb") == card_folder("data") / "emodb.yaml"
    own = tmp_path / "own.yaml"
    own.write_text(find_card("data", "emodb").read_text().replace("name: emodb", "name: own"))
    assert load_data_card(own).name == "own"
    with pytest.raises(BadArgumentError, match=r"There is no card 'nothing'; there are .*emodb.*ferplus"):
        find_card("data", "nothing")
    with pytest.raises(BadArgumentError, match="There is no file"):
        find_card("data", tmp_path / "absent.yaml")


def test_a_recipe_is_found_by_its_folder_and_name():
    assert find_card("train", "tiny/sft") == card_folder("train") / "tiny" / "sft.yaml"
    with pytest.raises(BadArgumentError, match=r"There is no recipe 'sft'; there are .*tiny/sft"):
        find_card("train", "sft")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: [", "it is no readable YAML"),
        ("name: x\n", "title: Field required"),
        ("- a\n", "The card bad.yaml cannot be used"),
        ("colour: red\nname: x\n", "cannot be used"),
    ],
)
def test_a_card_that_does_not_fit_is_refused_in_one_sentence(tmp_path, text, words):
    bad = tmp_path / "bad.yaml"
    bad.write_text(text)
    with pytest.raises(BadArgumentError) as caught:
        load_data_card(bad)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_installed_cards_are_found_below_share(tmp_path, monkeypatch):
    shared = tmp_path / "share/emollm/data"
    shared.mkdir(parents=True)
    (shared / "toy.yaml").write_text("name: toy")
    monkeypatch.setattr(cards, "__file__", str(tmp_path / "site/emollm/data/cards.py"))
    monkeypatch.setattr(cards.sysconfig, "get_path", lambda _: str(tmp_path))
    assert card_names("data") == ["toy"]
