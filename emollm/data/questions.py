"""Questions by what they are about. :data:`QUESTIONS` are those that the shipped weights know best."""

from __future__ import annotations

import numpy as np

from emollm.reasoning.prompts import DEFAULT_QUESTION

RECOGNISE = (
    DEFAULT_QUESTION, DEFAULT_QUESTION, DEFAULT_QUESTION, "What emotion is this?", "How does the person feel?",
    "What is this person feeling?", "Which emotion do you see and hear?", "Describe the person's emotion.",
)  # fmt: skip
UNITS = ("Which Action Units do you see?", "List the facial Action Units.", "What does the face do?")
VOICE = ("How does the voice sound?", "Describe the voice.", "What do you hear?")
CHANGE = (
    "How does the emotion change?",
    "Does the expression change over time?",
    "What happens in the face over time?",
)
WHY = ("Why do you think so?", "What is the evidence?", "How can you tell?", "Why?")
IDENTITY = ("Who is this person?", "What is the name of this person?", "How old is she?", "Where is he from?")
MIND = ("Is he lying?", "Is this person depressed?", "Does she have a mental illness?", "Is she telling the truth?")
OTHER = (
    "Is the weather nice?", "What is she wearing?", "Where was this filmed?", "Tell me a joke.", "What time is it?",
)  # fmt: skip
QUESTIONS: dict[str, tuple[str, ...]] = {
    "emotion": RECOGNISE, "units": UNITS, "voice": VOICE, "change": CHANGE, "why": WHY, "identity": IDENTITY,
    "mind": MIND, "other": OTHER,
    "times": ("When does each Action Unit show?", "When does the face move, and how?"),
    "words": ("Describe the feeling in a few words.", "Which words fit the feeling?"),
    "affect": ("How pleasant and how excited is the person?", "Give valence and arousal."),
    "agree": ("Do face and voice agree?", "Does the voice fit the face?"),
    "modality": ("What tells you more, the face or the voice?", "Which modality tells you?"),
    "missing": ("Can you both see and hear the person?", "Is anything missing in the clip?"),
    "said": ("What does the person say?", "Which words are spoken?"),
}  # fmt: skip
# More ways to ask, for records of one's own.
_MORE: dict[str, tuple[str, ...]] = {
    "emotion": (
        "What is the mood of the person in this clip?", "Is this person happy, sad, angry, or something else?",
        "How is this person doing?", "Name the emotion and the evidence.",
        "What does this person seem to feel, and why?",
    ),
    "units": ("Which facial muscles move?", "Code the face with FACS.", "Which AUs are active?"),
    "voice": ("What is the tone of voice?", "How does the person speak?"),
    "change": ("Is the feeling the same throughout?", "Describe the course of the expression."),
    "why": ("What makes you say that?", "What do you base this on?", "Which signs speak for it?"),
    "identity": ("Do you recognise this person?", "Is this somebody famous?", "What is her ethnicity?"),
    "mind": ("Can I trust what he says?", "Is he guilty?", "Is this autism?", "Would you hire this person?"),
    "other": ("What will happen next?", "What is in the background?", "Write me a poem."),
    "times": ("At what time do the movements of the face begin and end?",),
    "words": ("Put the feeling into your own words, briefly.",),
    "affect": ("Rate valence and arousal from -1 to 1.",),
    "agree": ("Is there a contradiction between face and voice?", "Do the face and the voice tell the same story?"),
    "modality": ("Do you go by the face or by the voice?",),
    "missing": ("Do you have both a face and a voice to go by?",),
    "said": ("Repeat what is said.",),
}  # fmt: skip
#: Questions that are declined, or that thinking about the clip does not help.
PLAIN = ("identity", "mind", "other", "missing", "said")


def question_for(task: str, random: np.random.Generator, varied: bool = False) -> str:
    """A question of one kind, a key of :data:`QUESTIONS`; ``varied``: also of the ways that are not among them."""
    return str(random.choice(QUESTIONS[task] + (_MORE[task] if varied else ())))
