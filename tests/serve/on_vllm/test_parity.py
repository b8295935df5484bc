"""vLLM says what transformers says: the same prompt tokens, the same reply, the same probabilities (float32)."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from reference import Case, Reference, assert_alike
from tiny import make_clip

from emollm.reasoning.prompts import assistant_message, clip_message, user_message
from emollm.serve.transformers_engine import TransformersEngine
from emollm.train.sft import LORA_TARGETS

CLIP, SILENT = make_clip(), make_clip(5.0, seed=1, voice=False)
VOICE, PICTURE = make_clip(3.0, seed=2, face=False), make_clip(0.0, seed=3)
LONG = make_clip(45.0, seed=4, fps=1.0)


def _ask(clip, media="video", question=None):
    return Case([clip_message(question, media=media)], [(media, clip)])


TWO = {
    "role": "user",
    "content": [
        {"type": "text", "text": "Compare "},
        {"type": "video"},
        {"type": "text", "text": "and "},
        {"type": "video"},
    ],
}
MIXED = [
    {"role": "user", "content": [{"type": "image"}, {"type": "video"}, {"type": "text", "text": "Who?"}]},
    assistant_message("happiness"),
    {"role": "user", "content": [{"type": "text", "text": "And she: "}, {"type": "audio"}]},
]
CASES = {
    "video with sound": _ask(CLIP),
    "silent video": _ask(SILENT),
    "video without a face": _ask(VOICE),
    "longer than the finest windows allow": _ask(LONG),
    "picture": _ask(PICTURE, "image"),
    "sound": _ask(VOICE, "audio", "What does the voice tell?"),
    "text": Case([user_message("How do people show anger?")], []),
    "two clips": Case([TWO], [("video", CLIP), ("video", SILENT)]),
    "a second question": Case([clip_message(), assistant_message("fear"), user_message("Why?")], [("video", CLIP)]),
    "turns and kinds mixed": Case(MIXED, [("image", PICTURE), ("video", CLIP), ("audio", VOICE)]),
}


@pytest.fixture(scope="module")
def expected(reference):
    replies = {name: reference.reply(case) for name, case in CASES.items()}
    assert len({tuple(reply.tokens) for reply in replies.values()}) == len(CASES)  # replies depend on their case
    return replies


@pytest.fixture(scope="module")
def encoded(tiny):
    """The clips as an API process that has run the towers hands them over."""
    encode = TransformersEngine(tiny).encode
    return {
        name: [(modality, encode(clip)) for modality, clip in case.clips] for name, case in CASES.items() if case.clips
    }


@pytest.mark.parametrize("name", CASES)
def test_alone(name, engine, reference, expected):
    case = CASES[name]
    assert_alike(engine.replies([(reference.text(case), case.clips)])[0], expected[name])


def test_all_in_one_batch(engine, reference, expected):
    replies = engine.replies([(reference.text(case), case.clips) for case in CASES.values()])
    for reply, name in zip(replies, CASES):
        assert_alike(reply, expected[name])


def test_clips_that_are_already_encoded(engine, reference, expected, encoded):
    replies = engine.replies([(reference.text(CASES[name]), media) for name, media in encoded.items()])
    for reply, name in zip(replies, encoded):
        assert_alike(reply, expected[name])


@pytest.fixture(scope="module")
def adapter(tiny, tmp_path_factory):
    """A random LoRA adapter on the language model, and a reference that has it merged."""
    adapted = Reference(tiny)
    torch.manual_seed(5)
    peft = get_peft_model(adapted.model, LoraConfig(r=4, lora_alpha=8, target_modules=LORA_TARGETS))
    with torch.no_grad():
        for name, parameter in peft.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    folder = tmp_path_factory.mktemp("lora")
    peft.save_pretrained(folder)
    adapted.model = peft.merge_and_unload()
    return folder, adapted


def test_an_adapter_on_the_language_model(engine, reference, expected, adapter):
    from vllm.lora.request import LoRARequest

    folder, adapted = adapter
    names = ("video with sound", "picture", "two clips")
    replies = engine.replies(
        [(reference.text(CASES[n]), CASES[n].clips) for n in names], LoRARequest("a", 1, str(folder))
    )
    for reply, name in zip(replies, names):
        assert_alike(reply, adapted.reply(CASES[name]))
        assert reply.tokens != expected[name].tokens  # the adapter does something
