import dataclasses
from collections import Counter

import numpy as np
import pytest
from fakes import make_face_states, make_voices

from emollm.data.compose import READINGS, FaceStates, compose
from emollm.data.pairing import OPPOSITES, Pairing
from emollm.emotions import EXPRESSIONS
from emollm.errors import BadArgumentError
from emollm.eval.probes.said import names_conflict
from emollm.facs import AU_CODES
from emollm.reasoning.parse import parse_answer

FACES, VOICES = make_face_states(240), make_voices()
EMOTION = {"emotion": 1.0}


def paired(**shares):
    """(record, emotion of its face, of its voice) of those that have both."""
    for record in compose(400, FACES, VOICES, "train", 0, shares.pop("mix", EMOTION), **shares):
        if record.faces and record.voice is not None:
            yield record, str(FACES.label[record.faces[0][0]]), str(VOICES.emotion[record.voice])


def share(pairs) -> float:
    return sum(face != voice for _, face, voice in pairs) / 400


def test_shares_are_of_all_records():
    pairs = list(paired(agree_share=0.3, conflict_share=0.7))
    assert len(pairs) == 400
    assert 0.62 < share(pairs) < 0.78
    assert 0.24 < share(list(paired(agree_share=0.05, conflict_share=0.25))) < 0.45  # those that meet by chance too


def test_a_conflict_is_named_and_an_agreement_is_not():
    for think_share in (0.0, 1.0):
        for record, face, voice in paired(agree_share=0.5, conflict_share=0.5, think_share=think_share):
            reply = parse_answer(record.messages[-1]["content"])
            assert names_conflict(reply) == (face != voice), record.messages[-1]["content"]


def test_the_face_alone_does_not_tell_a_conflict():
    """Emotions that are only seen or only heard take no part, and neither does a face at rest."""
    for conflict in (True, False):
        shares = {"conflict_share": 1.0} if conflict else {"agree_share": 1.0}
        seen = {face for _, face, _ in paired(**shares)}
        heard = {voice for _, _, voice in paired(**shares)}
        assert seen == heard == {"anger", "disgust", "fear", "happiness", "sadness"}


def test_opposites_are_drawn_more_often():
    count = Counter((face, voice) for _, face, voice in paired(conflict_share=1.0))
    assert all(face != voice for face, voice in count)
    others = [number for pair, number in count.items() if pair not in OPPOSITES]
    assert min(count[pair] for pair in OPPOSITES) > 2 * max(others)


def test_clear_faces_are_those_that_the_tower_reads_so():
    def read(row: int, emotion: str) -> float:
        return FACES.states[row, -READINGS + len(AU_CODES) + EXPRESSIONS.index(emotion)]

    assert min(read(r.faces[0][0], face) for r, face, _ in paired(conflict_share=1.0)) < 0.1
    rows = [(r.faces[0][0], face) for r, face, _ in paired(conflict_share=1.0, clear=0.2)]
    assert min(read(row, face) for row, face in rows) >= 0.2
    others = [(r.faces[0][0], face) for r, face, _ in paired(conflict_share=0.1, clear=0.2)]
    known = [(row, face) for row, face in others if len(FACES.clear(face, 0.2))]
    assert min(read(row, face) for row, face in known) >= 0.2


def test_every_voice_and_task_can_be_part_of_a_pair():
    pairs = list(paired(conflict_share=0.5, agree_share=0.5, mix={"agree": 1.0, "change": 1.0, "modality": 1.0}))
    assert {record.voice for record, *_ in pairs} == {
        row for row in np.flatnonzero(VOICES.split == "train") if VOICES.emotion[row] not in ("neutral", "boredom")
    }
    assert all(len(record.faces) == 1 for record, *_ in pairs)


def test_without_clear_faces_there_are_no_pairs():
    with pytest.raises(BadArgumentError, match="lower 'clear'"):
        list(compose(1, FACES, VOICES, "train", 0, EMOTION, conflict_share=0.5, clear=1.1))
    with pytest.raises(BadArgumentError):
        Pairing(0.5, 0.5, {"happiness": np.arange(3)}, {"happiness": np.arange(2), "sadness": np.arange(2)})


def test_opposites_that_are_not_there_are_left_out():
    rows = {emotion: np.arange(2) for emotion in ("fear", "disgust")}
    pairing = Pairing(0.0, 1.0, rows, rows)
    random = np.random.default_rng(0)
    drawn = [pairing.draw(random) for _ in range(20)]
    assert {pair.face_emotion for pair in drawn} == {"fear", "disgust"}
    assert all(pair.face_emotion != pair.voice_emotion for pair in drawn)


def test_faces_without_states_of_a_label():
    alone = FaceStates(FACES.states[FACES.label == "happiness"], FACES.label[FACES.label == "happiness"])
    assert len(alone.clear("happiness", 0.0)) == len(alone.label)
    assert len(alone.clear("sadness", 0.0)) == 0
    assert dataclasses.replace(alone).labels == {"happiness"}
