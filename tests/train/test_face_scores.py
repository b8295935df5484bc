import json
import sys

import numpy as np
import pytest
import torch
from fakes import make_faces

from emollm.emotions import EXPRESSIONS
from emollm.model.face_encoder import FaceEncoder
from emollm.train import face_scores as module
from emollm.train.face_scores import face_scores, main


@pytest.fixture
def tower(parts):
    return FaceEncoder.from_pretrained(parts.face_tower)


def test_a_tower_that_is_right_scores_full(tower, monkeypatch):
    faces = make_faces()
    known = np.nan_to_num(faces.aus), np.nan_to_num(faces.expression)
    monkeypatch.setattr(module, "predict_faces", lambda tower, faces: (known[1], known[0]))
    scores = face_scores(tower, faces)
    assert scores["war"] == scores["uar"] == scores["au_f1"] == [1.0, 1.0, 1.0]
    assert scores["au_mae"] == 0.0
    assert {one["r"] for one in scores["per_au"].values()} == {1.0}
    assert {one["recall"] for one in scores["per_class"].values()} == {1.0}
    assert sum(one["count"] for one in scores["per_class"].values()) == 32  # faces with votes


def test_an_expression_that_no_face_has_takes_no_part(tower, monkeypatch):
    faces = make_faces()
    faces.expression[:] = np.eye(len(EXPRESSIONS))[np.arange(len(faces)) % 2]  # two expressions only
    logits = faces.expression.copy()
    logits[0] = np.eye(len(EXPRESSIONS))[7]  # one of 24 neutral faces is taken for another
    monkeypatch.setattr(module, "predict_faces", lambda tower, faces: (logits, np.nan_to_num(faces.aus)))
    scores = face_scores(tower, faces)
    assert scores["per_class"] == {
        EXPRESSIONS[0]: {"recall": 0.9583, "count": 24},
        EXPRESSIONS[1]: {"recall": 1.0, "count": 24},
    }
    assert scores["uar"][0] == round((23 / 24 + 1) / 2, 4)


def test_pseudo_labels_score_nothing(tower):
    faces = make_faces()
    faces.origin = np.full(len(faces), "pseudo")
    assert "au_f1" not in face_scores(tower, faces)


def test_predictions_are_those_of_the_tower_whatever_the_batch(tower):
    faces = make_faces(300)
    torch.manual_seed(0)
    logits, units = module.predict_faces(tower, faces)
    part = faces.subset(np.arange(300) % 7 == 3)
    np.testing.assert_allclose(module.predict_faces(tower, part)[0], logits[3::7], atol=1e-5)
    assert units.shape == (300, 17)


def test_command(parts, data, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["face_scores", str(parts.face_tower), str(data / "faces" / "fake.npz"), "--json"]
    )
    main()
    found = json.loads(capsys.readouterr().out)["fake"]
    assert 0 < found["faces"] < len(make_faces())  # the validation split only
    monkeypatch.setattr(sys, "argv", sys.argv[:-1])
    main()
    assert "AU12 F1" in capsys.readouterr().out.replace("\n", " ")
