"""Which face meets which voice where a record is to be about both: agreeing ones, and conflicts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emollm.errors import BadArgumentError

# A face at rest says nothing against a moved voice, and boredom is heard only: neither makes a conflict to be named.
_SILENT = ("neutral", "boredom")
OPPOSITES = (
    ("happiness", "sadness"), ("happiness", "anger"), ("sadness", "happiness"), ("anger", "happiness"),
)  # fmt: skip
OPPOSITE_SHARE = 0.5  # of the conflicts; the others are any two emotions


@dataclass(frozen=True)
class Pair:
    """A face (its row) and the emotion of a voice."""

    face: int
    face_emotion: str
    voice_emotion: str


class Pairing:
    """Draws pairs of a face and a voice.

    Only emotions that are both seen and heard take part, in agreements and conflicts alike: otherwise the face alone
    would tell that there is a conflict (no voice of EmoDB is surprised). Pictures are taken whose label the tower
    itself reads with some confidence: of a face labelled happy in which it reads sadness, the model could learn only
    to name what it cannot see. The others keep their part in all other records.

    Args:
        agree, conflict: shares of all records that are pairs of one emotion, and of two.
        faces: rows to take, by emotion.
        spoken: rows of voices, by emotion.

    Raises:
        BadArgumentError: fewer than two emotions are both seen and heard.
    """

    def __init__(self, agree: float, conflict: float, faces: dict[str, np.ndarray], spoken: dict[str, np.ndarray]):
        self.agree, self.conflict, self.faces = agree, conflict, faces
        self.emotions = [e for e in sorted(spoken) if e not in _SILENT and len(faces.get(e, ()))]
        if len(self.emotions) < 2:
            raise BadArgumentError("Pairs need two emotions that clear faces and voices both show; lower 'clear'.")
        self.opposites = [pair for pair in OPPOSITES if set(pair) <= set(self.emotions)]

    def draw(self, random: np.random.Generator) -> Pair | None:
        """A pair, or None where the record is to be another."""
        chance = random.random()
        if chance >= self.agree + self.conflict:
            return None
        face = voice = str(random.choice(self.emotions))
        if chance >= self.agree:
            if self.opposites and random.random() < OPPOSITE_SHARE:
                face, voice = self.opposites[int(random.integers(len(self.opposites)))]
            else:
                voice = str(random.choice([emotion for emotion in self.emotions if emotion != face]))
        return Pair(int(random.choice(self.faces[face])), face, voice)
