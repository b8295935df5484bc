from importlib.util import find_spec
from itertools import product

import numpy as np
import pytest

from emollm.data.anny_head import anny_head
from emollm.data.head import PARTS, load_head
from emollm.data.phenotypes import Phenotypes, Traits
from emollm.errors import BadArgumentError
from emollm.facs import ARKIT_TO_AU

STAGES = product(("male", "female"), ("child", "young", "old"), ("min", "average", "max"), ("min", "average", "max"))
UNIVERSAL = [f"universal:{sex}-{age}-{muscle}muscle-{weight}weight" for sex, age, muscle, weight in STAGES]
LOCAL = ["local:l-eye-scale+", "local:l-eye-scale-", "local:r-eye-scale+", "local:r-eye-scale-", "local:chin-width+"]


def test_the_shares_of_the_stages_add_up_to_one_person() -> None:
    people = Phenotypes(UNIVERSAL)
    assert people.mean().sum() == pytest.approx(1)
    assert people.mean()[UNIVERSAL.index("universal:female-young-averagemuscle-averageweight")] == pytest.approx(0.5)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        drawn = people.draw(Traits.random(rng), rng, 1.0) + people.mean()
        assert drawn.min() >= -1e-6
        assert drawn.sum() == pytest.approx(1, abs=1e-5)


def test_age_and_sex_choose_the_shapes() -> None:
    people = Phenotypes(UNIVERSAL)
    drawn = people.draw(Traits(years=90, feminine=1.0), np.random.default_rng(0), 0.0) + people.mean()
    assert UNIVERSAL[int(drawn.argmax())] == "universal:female-old-averagemuscle-averageweight"
    assert drawn.max() == pytest.approx(1, abs=1e-5)


def test_both_sides_of_a_face_change_nearly_alike_and_one_way_at_a_time() -> None:
    rng = np.random.default_rng(1)
    drawn = np.stack([Phenotypes(LOCAL).draw(Traits(30, 0.5), rng, 1.0) for _ in range(300)])
    left, right = drawn[:, 0] - drawn[:, 1], drawn[:, 2] - drawn[:, 3]
    assert (drawn[:, :4].reshape(-1, 2, 2).min(axis=2) == 0).all()
    assert np.corrcoef(left, right)[0, 1] > 0.9
    assert np.abs(left - right).max() > 0.01


@pytest.mark.skipif(find_spec("anny") is None, reason="the package anny is not installed")
def test_annys_head_has_every_action_and_is_upright() -> None:
    head = load_head(anny_head(), {})
    assert not [action for action in ARKIT_TO_AU if not head.sides(action)]
    points = head.neutral[head.landmarks]
    assert points[8, 1] < points[57, 1] < points[33, 1] < points[27, 1] < points[19, 1]  # chin, lip, nose, eyes, brow
    assert points[36, 0] < points[39, 0] < 0 < points[42, 0] < points[45, 0]  # the subject's left is x > 0
    assert np.allclose(points[[36, 48, 17]] * (-1, 1, 1), points[[45, 54, 26]], atol=0.05)
    assert points[30, 2] > points[0, 2]  # the nose is in front
    assert {PARTS[index] for index in np.unique(head.part)} == {"skin", "gums", "teeth", "eyes", "lashes"}
    opened = head.pose(head.neutral, dict.fromkeys(head.sides("jawOpen"), 1.0))
    assert head.lip_gap(opened) - head.lip_gap(head.neutral) > 0.2
    teenager, old = (head.draw_person(Traits(years, 0.5), np.random.default_rng(3), 0.0) for years in (18, 80))
    assert np.abs(teenager - old).max() > 0.1


def test_without_the_package_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emollm.data.anny_head.find_spec", lambda name: None)
    with pytest.raises(BadArgumentError, match="synth"):
        anny_head()
