"""People for a body model whose shapes are named after age, gender, build and origin (MakeHuman's scheme, as in Anny).

A shape such as ``universal:female-old-averagemuscle-maxweight`` counts as much as the person is female, old, of
average muscle and heavy: the product of piecewise linear shares between the scheme's stages.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Stages of each property on the scheme's 0-1 scale.
_STAGES: dict[str, dict[str, float]] = {
    "age": {"newborn": -1 / 3, "baby": 0, "child": 1 / 3, "young": 2 / 3, "old": 1},
    "gender": {"male": 0, "female": 1},
    "muscle": {"minmuscle": 0, "averagemuscle": 0.5, "maxmuscle": 1},
    "weight": {"minweight": 0, "averageweight": 0.5, "maxweight": 1},
}
_ORIGINS = ("african", "asian", "caucasian")
_YEARS, _AGE = (1, 11, 25, 90), (0, 1 / 3, 2 / 3, 1)  # years of the stages from baby to old


@dataclass(frozen=True)
class Traits:
    """What paint and geometry of one person share."""

    years: float
    feminine: float  # 0-1

    @classmethod
    def random(cls, rng: np.random.Generator) -> "Traits":
        feminine = rng.beta(0.5, 0.5)  # mostly near one end
        return cls(years=float(rng.uniform(16, 80)), feminine=float(feminine))


@dataclass(frozen=True)
class Phenotypes:
    """The identities of a head by name: ``universal:…`` and ``race:…`` shapes, ``local:…`` ones of single features.

    A local name ends in ``+`` or ``-`` for the two directions; ``l-`` and ``r-`` before it mean one side only.
    """

    names: Sequence[str]

    def draw(self, traits: Traits, rng: np.random.Generator, spread: float) -> np.ndarray:
        """(K,) coefficients of a random person with these traits, less those of the mean face."""
        body = rng.normal(0.5, 0.22 * spread, 2).clip(0, 1)
        origin = rng.dirichlet([0.5, 0.5, 0.5])
        age = float(np.interp(traits.years, _YEARS, _AGE))
        macro = self._macro(age, traits.feminine, body[0], body[1], origin)
        local = self._local(rng, 0.22 * spread)
        return (macro + local - self.mean()).astype(np.float32)

    def mean(self) -> np.ndarray:
        """(K,) coefficients of the face that all others are measured from: 25 years, between all extremes."""
        return self._macro(2 / 3, 0.5, 0.5, 0.5, np.full(3, 1 / 3))

    def _macro(self, age: float, gender: float, muscle: float, weight: float, origin: np.ndarray) -> np.ndarray:
        shares = dict(zip(_ORIGINS, origin.tolist()))
        for stages, value in zip(_STAGES.values(), (age, gender, muscle, weight)):
            places = list(stages.values())
            for index, stage in enumerate(stages):
                shares[stage] = float(np.interp(value, places, np.eye(len(places))[index]))
        coefficients = np.zeros(len(self.names))
        for index, name in enumerate(self.names):
            block, _, stages_named = name.partition(":")
            if block != "local":
                coefficients[index] = np.prod([shares[stage] for stage in stages_named.split("-")])
        return coefficients

    def _local(self, rng: np.random.Generator, spread: float) -> np.ndarray:
        changes: dict[str, float] = {}
        coefficients = np.zeros(len(self.names))
        for index, name in enumerate(self.names):
            block, _, change = name.partition(":")
            if block != "local":
                continue
            feature, way = change[:-1], 1 if change[-1] == "+" else -1
            if feature not in changes:
                both = feature[2:] if feature[:2] in ("l-", "r-") else feature
                if both not in changes:
                    changes[both] = float(rng.normal(0, spread))
                uneven = rng.normal(0, 0.15 * spread) if both != feature else 0.0  # no face is the same on both sides
                changes[feature] = changes[both] + uneven
            coefficients[index] = np.clip(way * changes[feature], 0, 1)
        return coefficients
