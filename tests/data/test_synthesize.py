import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from emollm.data.cards import load_data_card
from emollm.data.command import app
from emollm.data.expressions import Expression, choose_aus, express
from emollm.data.head import Head, load_head
from emollm.data.phenotypes import Traits
from emollm.data.readers import read_rows
from emollm.data.recipe import HeadRecipe, Recipe, load_recipe
from emollm.data.render import Renderer
from emollm.data.synthesize import draw_identity, synthesize
from emollm.errors import BadArgumentError
from emollm.facs import AU_CODES, PROTOTYPES

RECIPE = Recipe(head=HeadRecipe(), identities=4, images_per_identity=3, valid_share=0.25, size=48)
RECIPES = Path(__file__).parents[2] / "train" / "tiny"


@pytest.fixture(scope="module")
def head(head_file: Path) -> Head:
    return load_head(head_file, {})


@pytest.fixture(scope="module")
def table(head_file: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    out = synthesize(RECIPE, tmp_path_factory.mktemp("renders") / "faces.parquet", head_file, workers=2)
    return pq.read_table(out).to_pandas()


def test_every_row_holds_a_picture_and_all_labels(table: pd.DataFrame) -> None:
    assert len(table) == 12
    assert [column for column in table if column.startswith("au_")] == [f"au_{code}" for code in AU_CODES]
    assert set(table["label_origin"]) == {"exact"}
    assert set(table["head"]) == {"ict"}
    for row in table.itertuples():
        picture = Image.open(io.BytesIO(row.image))
        assert picture.size == (48, 48)
        assert np.asarray(picture).std() > 5
    labels = table[[f"au_{code}" for code in AU_CODES]].to_numpy()
    assert labels.min() >= 0
    assert labels.max() <= 5
    assert labels.max() > 1


def test_people_are_disjoint_between_the_splits(table: pd.DataFrame) -> None:
    people = table.groupby("split")["identity"].unique()
    assert set(people["train"]) == {0, 1, 2}
    assert set(people["valid"]) == {3}


def test_the_seed_alone_decides_the_bytes(table: pd.DataFrame, head: Head) -> None:
    again = draw_identity(RECIPE, 3, Renderer(head))
    assert [row["image"] for row in again] == table[table["identity"] == 3]["image"].tolist()
    other = draw_identity(RECIPE.model_copy(update={"seed": 1}), 3, Renderer(head))
    assert not {row["image"] for row in again} & {row["image"] for row in other}
    assert len({row["image"] for row in again}) == 3


def test_labels_are_the_weights_drawn(head: Head) -> None:
    def labels(weights: dict[str, float]) -> dict[str, float]:
        expression = Expression(weights)
        gap = head.lip_gap(head.pose(head.neutral, weights)) - head.lip_gap(head.neutral)
        return expression.intensities(head, gap)

    uneven = labels({"mouthSmile_L": 0.6, "mouthSmile_R": 0.2, "browInnerUp_L": 1.0, "browInnerUp_R": 1.0})
    assert uneven["AU12"] == pytest.approx(2.0)
    assert uneven["AU1"] == pytest.approx(5.0)
    assert uneven["AU4"] == 0
    assert uneven["AU25"] == pytest.approx(0.0, abs=0.3)
    ajar, open_wide = labels({"jawOpen": 0.2}), labels({"jawOpen": 1.0})
    assert ajar["AU26"] == pytest.approx(1.0)
    assert 0 < ajar["AU25"] < open_wide["AU25"] <= 5


def test_an_expression_aims_at_what_was_asked(head: Head) -> None:
    drawn = [express(head, {"AU12": 2.5}, np.random.default_rng(seed)).intensities(head, 0.0) for seed in range(200)]
    smiles = np.array([aus["AU12"] for aus in drawn])
    assert smiles.mean() == pytest.approx(2.5, abs=0.1)
    assert smiles.std() > 0.05
    assert all(aus[code] == 0 for aus in drawn for code in ("AU1", "AU45", "AU6"))


@given(st.integers(0, 2**32))
def test_chosen_intensities_are_on_the_scale_and_can_be_shown_together(seed: int) -> None:
    aus = choose_aus(np.random.default_rng(seed), 0.08, 0.5)
    assert set(aus) <= set(AU_CODES)
    assert all(0 < value <= 5 for value in aus.values())
    assert not (aus.get("AU45", 0) >= 1 and "AU5" in aus)
    assert not (aus.get("AU24", 0) >= 1 and ("AU25" in aus or "AU26" in aus))


def test_shares_are_kept() -> None:
    rng = np.random.default_rng(0)
    assert all(choose_aus(rng, 1.0, 0.5) == {} for _ in range(20))
    neutral = np.mean([choose_aus(rng, 0.3, 1.0) == {} for _ in range(2000)])
    assert 0.27 < neutral < 0.38  # a one-AU prototype may lose that AU
    prototypes = [{*codes, "AU45"} for codes in PROTOTYPES.values()]
    for _ in range(100):
        chosen = set(choose_aus(rng, 0, 1.0))
        assert any(chosen <= codes for codes in prototypes)


def test_both_sides_of_an_action_unit_are_kept_apart(head: Head) -> None:
    sides = Expression({"mouthSmile_L": 0.6, "mouthSmile_R": 0.2}).sides(head)
    assert sides["AU12"] == (0.2, 0.6)  # right, left
    assert sides["AU26"] == (0.0, 0.0)
    one_sided = [express(head, {"AU12": 5.0}, np.random.default_rng(seed)).sides(head)["AU12"] for seed in range(200)]
    assert 2 <= sum(abs(right - left) > 0.4 for right, left in one_sided) <= 40


def test_people_differ_but_their_eyes_are_equally_far_apart(head: Head) -> None:
    rng, corners = np.random.default_rng(0), head.landmarks[[36, 45]]
    people = [head.draw_person(Traits.random(rng), rng, 0.9) for _ in range(3)]
    apart = [np.linalg.norm(np.subtract(*person[corners])) for person in (head.neutral, *people)]
    assert apart[1:] == pytest.approx(apart[:1] * 3, rel=1e-4)
    assert np.abs(people[0] - people[1]).max() > 0.05
    assert np.allclose(head.draw_person(Traits.random(rng), rng, 0.0), head.neutral, atol=1e-4)


def test_a_run_that_was_broken_off_goes_on(
    table: pd.DataFrame, head_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "faces.parquet"
    monkeypatch.setattr("emollm.data.synthesize.pq.ParquetWriter", _fail)
    with pytest.raises(BadArgumentError, match="cannot write"):
        synthesize(RECIPE, out, head_file, workers=1)
    monkeypatch.undo()
    monkeypatch.setattr("emollm.data.workers.ProcessPoolExecutor", _fail)  # nothing is left to be drawn
    synthesize(RECIPE, out, head_file, workers=1)
    pd.testing.assert_frame_equal(pq.read_table(out).to_pandas(), table)
    assert [path.name for path in tmp_path.iterdir()] == ["faces.parquet"]


def _fail(*arguments: object, **named: object) -> None:
    raise OSError(28, "no space left on device")


def test_the_file_says_how_it_was_made_and_never_where(table: pd.DataFrame, head_file: Path, tmp_path: Path) -> None:
    out = synthesize(RECIPE.model_copy(update={"identities": 2}), tmp_path / "new" / "a.parquet", head_file, workers=1)
    kept = json.loads(pq.read_schema(out).metadata[b"recipe"])
    assert kept["seed"] == RECIPE.seed
    assert "path" not in kept["head"]
    assert [path.name for path in out.parent.iterdir()] == ["a.parquet"]


def test_bad_arguments_are_one_sentence_and_leave_nothing(head_file: Path, tmp_path: Path) -> None:
    with pytest.raises(BadArgumentError, match="names no head"):
        synthesize(RECIPE, tmp_path / "a.parquet")
    with pytest.raises(BadArgumentError, match="no head at"):
        synthesize(RECIPE, tmp_path / "a.parquet", tmp_path / "none.npz")
    (tmp_path / "file").touch()
    with pytest.raises(BadArgumentError, match="cannot write"):
        synthesize(RECIPE, tmp_path / "file" / "a.parquet", head_file, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_recipes_are_checked(tmp_path: Path) -> None:
    clips = load_recipe(RECIPES / "clips_anny.yaml")
    assert clips.clips is not None
    assert clips.head.gains == load_recipe(RECIPES / "renders_anny.yaml").head.gains
    for name in ("renders", "renders_anny"):
        committed = load_recipe(RECIPES / f"{name}.yaml")
        assert committed.identities * committed.images_per_identity == 12_000
    for text, reason in (("head: {}\nsize: big", "size"), ("head: {}\ncolour: red", "colour"), ("a: [", "YAML")):
        (tmp_path / "r.yaml").write_text(text)
        with pytest.raises(BadArgumentError, match=reason):
            load_recipe(tmp_path / "r.yaml")
    with pytest.raises(BadArgumentError, match="no recipe"):
        load_recipe(tmp_path / "none.yaml")


def test_the_command_finds_recipes_by_name_as_the_data_card_says(tmp_path: Path) -> None:
    assert "emollm data synthesize tiny/renders_anny " in load_data_card("renders").get
    out = ["--out", str(tmp_path / "faces.parquet")]
    for name in ("tiny/renders", str(RECIPES / "renders.yaml")):  # names no head, which is found out first
        with pytest.raises(BadArgumentError, match="names no head"):
            app(["synthesize", name, *out], standalone_mode=False)
    with pytest.raises(BadArgumentError, match="There is no recipe 'tiny/rendrs'; there are"):
        app(["synthesize", "tiny/rendrs", *out], standalone_mode=False)


def test_renders_are_a_data_set_with_people_of_its_own_in_each_split(table: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "renders").mkdir()
    table.to_parquet(tmp_path / "renders" / "anny.parquet")
    card = load_data_card("renders")
    reading = read_rows(card, tmp_path, unpack=tmp_path / "unpacked")
    assert not reading.problems
    assert len(reading.rows) == len(table)
    first = table.iloc[0]
    (row,) = [row for row in reading.rows if row.clip.read_bytes() == first["image"]]
    assert row.labels["aus"] == pytest.approx({code: first[f"au_{code}"] for code in AU_CODES})
    assert (row.fields["split"], row.fields["speaker"]) == (first["split"], str(first["identity"]))
