"""What stays with a person from picture to picture: colours, brows, hair, beard, and how the skin folds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emollm.data.head import Array
from emollm.data.phenotypes import Traits

_SKIN_TONES = np.array([[0.93, 0.76, 0.68], [0.80, 0.58, 0.46], [0.55, 0.36, 0.26], [0.25, 0.15, 0.11]])  # sRGB
_HAIR = np.array([[0.06, 0.05, 0.05], [0.16, 0.10, 0.07], [0.35, 0.23, 0.14], [0.60, 0.47, 0.30], [0.45, 0.20, 0.10]])
_IRIS = np.array([[0.16, 0.09, 0.05], [0.30, 0.19, 0.09], [0.25, 0.33, 0.20], [0.28, 0.40, 0.52], [0.35, 0.40, 0.42]])
_GREY = np.array([0.62, 0.61, 0.60])


@dataclass(frozen=True)
class Looks:
    """Colours are linear RGB."""

    skin: Array
    hair: Array
    iris: Array
    lips: Array  # factors on the skin's colour
    brow_width: float
    brow_lift: float
    brow_strength: float
    hairline: float  # height over the brows where hair begins, in eye distances; large: bald
    beard: float  # 0-1
    creases: float  # 0-1: how deep moving skin folds
    wrinkles: float  # 0-1: folds that stay when the face is at rest
    grain: int  # seed of the skin's blotches, of brow hairs and of the way of the folds

    @classmethod
    def random(cls, rng: np.random.Generator, traits: Traits) -> "Looks":
        tone = rng.uniform(0, 1) ** 1.4 * (len(_SKIN_TONES) - 1)
        fair = tone < 1.5
        grey = np.clip((traits.years - 45) / 30 + rng.normal(0, 0.3), 0, 1)
        hair = between(_HAIR, rng.uniform(0, len(_HAIR) - 1) if fair else rng.uniform(0, 1))
        bald = rng.random() < np.interp(traits.years, [25, 70], [0.02, 0.5]) * (1 - traits.feminine)
        bearded = rng.random() < 0.35 * (1 - traits.feminine)
        made_up = rng.random() < 0.5 * traits.feminine
        aged = np.clip((traits.years - 25) / 45, 0, 1)
        return cls(
            skin=linear(between(_SKIN_TONES, tone) * rng.uniform(0.93, 1.05, 3)),
            hair=linear(hair + grey * (_GREY - hair)),
            iris=linear(between(_IRIS, rng.uniform(0, len(_IRIS) - 1) if fair else rng.uniform(0, 1))),
            lips=np.array(
                [rng.uniform(0.72, 0.95), rng.uniform(0.35, 0.6), rng.uniform(0.38, 0.62)] if made_up
                else [rng.uniform(0.78, 0.95), rng.uniform(0.5, 0.72), rng.uniform(0.5, 0.72)], np.float32,
            ),
            brow_width=rng.uniform(0.03, 0.05) + 0.012 * (1 - traits.feminine),
            brow_lift=rng.uniform(-0.1, -0.03),
            brow_strength=rng.uniform(0.65, 0.97),
            hairline=9.0 if bald else rng.uniform(0.42, 0.62),
            beard=rng.uniform(0.25, 0.8) if bearded else 0.0,
            creases=float(np.clip(0.6 + 0.35 * aged + rng.normal(0, 0.12), 0.45, 1)),
            wrinkles=float(np.clip(0.3 * aged * rng.uniform(0.3, 1.2), 0, 0.35)),
            grain=int(rng.integers(2**31)),
        )  # fmt: skip


def linear(colour: NDArray[np.float64]) -> Array:
    """Linear RGB of display (sRGB) values 0-1."""
    return (np.clip(colour, 0, 1) ** 2.2).astype(np.float32)


def between(table: NDArray[np.float64], at: float) -> NDArray[np.float64]:
    """A row of ``table`` (N, 3), or a mixture of two, at the place 0 to N-1."""
    return np.stack([np.interp(at, range(len(table)), channel) for channel in table.T])
