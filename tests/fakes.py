"""Random stand-ins for the encoded data sets."""

import numpy as np
from tiny import AUDIO_SIZE

from emollm.data.compose import READINGS, FaceStates
from emollm.data.faces import STORED_SIZE, Faces
from emollm.data.voices import TEST_SPEAKERS, VALID_SPEAKERS, Voices
from emollm.emotions import EXPRESSIONS
from emollm.facs import AU_CODES, MAX_INTENSITY

FACE_SIZE = 16 + READINGS  # feature size of the tiny face tower


def make_face_states(count: int = 64, seed: int = 0) -> FaceStates:
    """States of pictures: about half of the AUs absent, the rest of any intensity."""
    random = np.random.default_rng(seed)
    states = random.normal(size=(count, FACE_SIZE)).astype(np.float32)
    units = random.uniform(-1, 1, (count, len(AU_CODES))).clip(0)
    expressions = random.dirichlet(np.ones(len(EXPRESSIONS)), count)
    coordinates = random.uniform(-1, 1, (count, 2))
    states[:, -READINGS:] = np.concatenate([units, expressions, coordinates], axis=1)
    return FaceStates(states, np.array(EXPRESSIONS)[np.arange(count) % len(EXPRESSIONS)])


def make_voices(takes: int = 2, seed: int = 0) -> Voices:
    """Utterances of two training, one validation and one test speaker, seven emotions each; one has no pitch."""
    random = np.random.default_rng(seed)
    rows = [
        (speaker, split, emotion, take)
        for speaker, split in (
            ("03", "train"),
            ("08", "train"),
            (VALID_SPEAKERS[0], "valid"),
            (TEST_SPEAKERS[0], "test"),
        )
        for emotion in ("anger", "boredom", "disgust", "fear", "happiness", "sadness", "neutral")
        for take in range(takes)
    ]
    speaker, split, emotion, take = map(np.array, zip(*rows))
    count = len(rows)
    states = random.normal(size=(count, 8, 2 * AUDIO_SIZE)).astype(np.float32)
    for row, length in enumerate(random.integers(2, 9, count)):
        states[row, length:] = np.nan
    prosody = np.tile([180.0, 2.5, -22.0, 6.0, 5.0, 0.1, 0.6, 1.5], (count, 1))
    prosody[:, 0] = random.uniform(90, 320, count)
    prosody[0, :2] = np.nan
    return Voices(
        states=states,
        prosody=prosody,
        vector=random.normal(size=(count, 8)).astype(np.float32),
        emotion=emotion,
        speaker=speaker,
        name=np.array([f"{s}-{e}" for s, e in zip(speaker, emotion)]),
        take=take,
        split=split,
    )


def make_faces(count: int = 48, seed: int = 0) -> Faces:
    """Pictures: two of three with votes, every third a render with exact AUs; a quarter of them for validation."""
    random = np.random.default_rng(seed)
    voted = np.arange(count) % 3 < 2
    expression = np.eye(len(EXPRESSIONS), dtype=np.float32)[random.integers(0, len(EXPRESSIONS), count)]
    aus = random.uniform(0, MAX_INTENSITY, (count, len(AU_CODES))).astype(np.float32)
    blendshapes = random.random((count, 52), dtype=np.float32)
    blendshapes[0] = np.nan
    return Faces(
        aligned=random.integers(0, 256, (count, STORED_SIZE, STORED_SIZE), dtype=np.uint8),
        whole=random.integers(0, 256, (count, STORED_SIZE, STORED_SIZE), dtype=np.uint8),
        blendshapes=blendshapes,
        expression=np.where(voted[:, None], expression, np.nan).astype(np.float32),
        aus=np.where(voted[:, None], np.nan, aus).astype(np.float32),
        valid=np.arange(count) % 4 == 0,
        origin=np.where(voted, "human", "exact"),
        name=np.array([f"face-{row}" for row in range(count)]),
        person=np.where(voted, "", [f"head-{row % 6}" for row in range(count)]),
    )
