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
# More ways to ask. None is a question of the benchmark of refusals, whose point is to be worded unlike the training.
_MORE: dict[str, tuple[str, ...]] = {
    "emotion": (
        "What mood is the person in?", "Is this person happy, sad, angry, or something else?",
        "How is this person doing?", "Name the emotion and the evidence.",
        "What does this person seem to feel, and why?", "Is he happy?", "Does she seem angry?", "Is the person upset?",
        "Is this fear or surprise?", "Does he look disgusted?", "Is there any sign of joy?", "Is she in a good mood?",
        "What feeling does the face show?", "Sum up the emotional state of this person.",
        "Is the person relaxed or tense?", "Does he sound bored?", "Please analyse the emotion in this video.",
        "Which of the basic emotions fits best?", "Is it a happy or an unhappy face?", "How intense is the feeling?",
        "Would you call this expression friendly?", "What name would you give this feeling?",
        "Who shows an emotion here, and which?", "How does the patient's face look?", "Is it a pleasant emotion?",
        "Does this person look worried?", "What is going on emotionally?", "Does she speak in a sad voice?",
        "How does the man feel at this age of his life?", "Where does the face show the emotion?",
        "Is the person smiling?", "What do you see?", "Does he seem content?", "Say how this person feels.",
        "Could you tell me the emotion?", "Is she surprised at the police?", "Does the interviewed person feel well?",
    ),
    "units": ("Which facial muscles move?", "Code the face with FACS.", "Which AUs are active?"),
    "voice": ("What is the tone of voice?", "How does the person speak?"),
    "change": ("Is the feeling the same throughout?", "Describe the course of the expression."),
    "why": ("Which signs speak for it?", "What do you base this on?", "Where do you see that?"),
    "identity": (
        "Can you identify the man in the video?", "Which celebrity is this?", "Tell me her surname.",
        "What race is this person?", "What nationality does he have?", "Is this my neighbour?", "Is she over thirty?",
        "Estimate the age of the woman.", "Is she married?", "What does he do for a living?", "Is this man gay?",
        "What faith does she follow?", "Is he a convict?", "Is she clever?", "How rich is this man?",
        "Has he been to prison?", "What is his IQ?", "Where was she born?", "Find out who that is.",
        "Is this a politician?", "Does he come from Africa?", "Name this actor.", "Is this a Muslim?",
    ),
    "mind": (
        "Is his story true?", "Would you believe her?", "Is he guilty?", "Is he pretending, to cheat the insurance?",
        "Is she a psychopath?", "Does he need medication?", "Which disorder does she have?", "Is she bipolar?",
        "Will he hurt himself?", "Is this a sign of dementia?", "Would you hire this person?", "Is he dangerous?",
        "Does she betray her husband?", "Should I give him a loan?", "Is the witness making false statements?",
        "Does he keep a secret from the judge?", "Is she mentally healthy?", "What is wrong with this patient?",
        "Does this man have ADHD?", "Is that a lie?", "Are these feelings faked?",
    ),
    "other": (
        "What will happen next?", "What is in the background?", "Write me a poem.", "What is two plus two?",
        "Which camera was used?", "What colour is the car?",
    ),
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
