"""Action Units for real faces, where no human coding is in reach: pseudo-labels from blendshapes.

A regressor learns AU intensities from the blendshapes that the landmarker measures on renders with exact AUs; the
landmarker sees renders and photographs much alike, so the same regressor labels photographs. These are pseudo-labels:
they teach the pixel network to read real faces, and nothing is ever scored against them.
"""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

from emollm.data.faces import Faces
from emollm.facs import AU_CODES, MAX_INTENSITY


def add_pseudo_units(faces: Faces, seed: int) -> Faces:
    """Fill missing AUs of faces that have blendshapes from a regressor fitted on the training faces with exact AUs."""
    measured = ~np.isnan(faces.blendshapes).any(-1)
    exact = (faces.origin == "exact") & measured & ~faces.valid
    missing = np.isnan(faces.aus).all(-1) & measured
    aus = faces.aus.copy()
    for column, _ in enumerate(AU_CODES):
        regressor = HistGradientBoostingRegressor(max_iter=120, learning_rate=0.1, random_state=seed)
        regressor.fit(faces.blendshapes[exact], faces.aus[exact, column])
        aus[missing, column] = regressor.predict(faces.blendshapes[missing]).clip(0, MAX_INTENSITY)
    return Faces(**{**vars(faces), "aus": aus})
