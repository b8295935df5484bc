"""Emotion label sets and the plain words for valence and arousal.

The nine labels are the eight of FER+ (Barsoum et al. 2016, https://arxiv.org/abs/1608.01041) in its order, then
*boredom*, which EmoDB (Burkhardt et al. 2005) adds for voices.
"""

import re

EXPRESSIONS: tuple[str, ...] = (
    "neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt",
)  # fmt: skip
EMOTIONS: tuple[str, ...] = (*EXPRESSIONS, "boredom")

# Other spellings that readers of data sets meet. Keys are lower case.
SYNONYMS: dict[str, str] = {
    "neutrality": "neutral", "calm": "neutral",
    "happy": "happiness", "joy": "happiness", "smiling": "happiness",
    "surprised": "surprise", "sad": "sadness", "angry": "anger", "mad": "anger",
    "disgusted": "disgust", "fearful": "fear", "afraid": "fear", "anxiety": "fear", "anxious": "fear",
    "contemptuous": "contempt", "bored": "boredom",
}  # fmt: skip

ADJECTIVES: dict[str, str] = {
    "neutral": "calm and neutral", "happiness": "happy", "surprise": "surprised", "sadness": "sad", "anger": "angry",
    "disgust": "disgusted", "fear": "afraid", "contempt": "contemptuous", "boredom": "bored",
}  # fmt: skip

# Valence and arousal of each label, both in [-1, 1], after the circumplex of Russell (1980) and the word norms of
# Warriner et al. (2013), rounded. They turn a label distribution into coordinates where no human rating exists.
VALENCE_AROUSAL: dict[str, tuple[float, float]] = {
    "neutral": (0.0, 0.0), "happiness": (0.8, 0.5), "surprise": (0.2, 0.7), "sadness": (-0.7, -0.4),
    "anger": (-0.6, 0.7), "disgust": (-0.7, 0.3), "fear": (-0.6, 0.7), "contempt": (-0.5, 0.1),
    "boredom": (-0.3, -0.6),
}  # fmt: skip


def canonical_emotion(word: str) -> str | None:
    """The label of :data:`EMOTIONS` that ``word`` names, or None. Case and outer space are ignored."""
    word = word.strip().lower()
    return word if word in EMOTIONS else SYNONYMS.get(word)


_WORD = re.compile(r"[a-z]+")
_FROM_ADJECTIVE = {adjective: label for label, adjective in ADJECTIVES.items() if " " not in adjective}


def named_emotions(text: str) -> list[str]:
    """Labels that the text names as whole words, in order of first mention."""
    found = (canonical_emotion(word) or _FROM_ADJECTIVE.get(word) for word in _WORD.findall(text.lower()))
    return [label for label in dict.fromkeys(found) if label in EMOTIONS]
