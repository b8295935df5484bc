"""Action Units (AUs) of the Facial Action Coding System: codes, names, regions, prototypes, intensity scale.

Names and codes follow Ekman, Friesen & Hager, *Facial Action Coding System* (2002). Intensities are continuous on
0-5, where 1 to 5 stand for the FACS letters A (trace) to E (maximum), as in OpenFace and DISFA.
"""

from dataclasses import dataclass

MAX_INTENSITY = 5.0
# FACS intensity A (trace) is the least that may be called present; the same threshold opens a measured span.
PRESENT = 1.0


@dataclass(frozen=True)
class ActionUnit:
    """One AU: FACS code such as ``"AU12"``, its FACS name, and the region of the face it moves."""

    code: str
    name: str
    region: str

    @property
    def number(self) -> int:
        return int(self.code[2:])


ACTION_UNITS: tuple[ActionUnit, ...] = (
    ActionUnit("AU1", "inner brow raiser", "brows"),
    ActionUnit("AU2", "outer brow raiser", "brows"),
    ActionUnit("AU4", "brow lowerer", "brows"),
    ActionUnit("AU5", "upper lid raiser", "eyes"),
    ActionUnit("AU6", "cheek raiser", "eyes"),
    ActionUnit("AU7", "lid tightener", "eyes"),
    ActionUnit("AU9", "nose wrinkler", "nose"),
    ActionUnit("AU10", "upper lip raiser", "mouth"),
    ActionUnit("AU12", "lip corner puller", "mouth"),
    ActionUnit("AU14", "dimpler", "mouth"),
    ActionUnit("AU15", "lip corner depressor", "mouth"),
    ActionUnit("AU17", "chin raiser", "mouth"),
    ActionUnit("AU20", "lip stretcher", "mouth"),
    ActionUnit("AU24", "lip pressor", "mouth"),
    ActionUnit("AU25", "lips part", "mouth"),
    ActionUnit("AU26", "jaw drop", "mouth"),
    ActionUnit("AU45", "blink", "eyes"),
)
AU_CODES: tuple[str, ...] = tuple(au.code for au in ACTION_UNITS)
AU_NAMES: dict[str, str] = {au.code: au.name for au in ACTION_UNITS}
BLINK = "AU45"

# Which ARKit facial actions carry which AU, as far as it is fair to go. Left and right are averaged by the reader.
ARKIT_TO_AU: dict[str, str] = {
    "browInnerUp": "AU1", "browOuterUp": "AU2", "browDown": "AU4", "eyeWide": "AU5", "cheekSquint": "AU6",
    "eyeSquint": "AU7", "noseSneer": "AU9", "mouthUpperUp": "AU10", "mouthSmile": "AU12", "mouthDimple": "AU14",
    "mouthFrown": "AU15", "mouthShrugLower": "AU17", "mouthStretch": "AU20", "mouthPress": "AU24", "jawOpen": "AU26",
    "eyeBlink": "AU45",
}  # fmt: skip

# AU combinations held typical of an emotion (EMFACS; Ekman & Friesen 1983, Du et al. 2014). They are what an
# interpretation may appeal to, never a rule that decides a label.
PROTOTYPES: dict[str, tuple[str, ...]] = {
    "happiness": ("AU6", "AU12", "AU25"),
    "surprise": ("AU1", "AU2", "AU5", "AU25", "AU26"),
    "sadness": ("AU1", "AU4", "AU15", "AU17"),
    "anger": ("AU4", "AU5", "AU7", "AU10", "AU24"),
    "disgust": ("AU4", "AU9", "AU10", "AU17"),
    "fear": ("AU1", "AU2", "AU4", "AU5", "AU20", "AU25"),
    "contempt": ("AU14",),
    "neutral": (),
}


def intensity_letter(intensity: float) -> str:
    """FACS letter of a 0-5 intensity: ``""`` below 0.5 (absent), then A to E by rounding to the nearest unit."""
    level = min(int(intensity + 0.5), 5)
    return "" if level < 1 else "ABCDE"[level - 1]
