"""The language model without adapters: told in words what the default model's towers measured, asked to choose.

It stands on the very parts that EmoLLM stands on, and lacks what EmoLLM learned to see and hear in their states.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from emollm.eval.baselines.wording import normalised, words
from emollm.eval.cards import BenchmarkCard
from emollm.eval.predict import cut, measured
from emollm.eval.schema import Measured, Reply, Sample
from emollm.facs import AU_NAMES, BLINK
from emollm.reasoning.prompts import MAX_TRANSCRIPT, neutralise
from emollm.reasoning.verify import PRESENT
from emollm.voice.prosody import Prosody
from emollm.weights import PARTS, fetch

if TYPE_CHECKING:
    from emollm.serve.transformers_engine import TransformersEngine


class TextOnly:
    """Compares how likely the language model finds each answer, so its reply can always be read.

    Args:
        engine: whose towers measure; None is the default model's.
        llm: folder of a causal language model with a chat template; None is the default's, SmolLM2-135M-Instruct.
    """

    name = "text-only"

    def __init__(self, card: BenchmarkCard, engine: TransformersEngine | None = None, llm: str | None = None):
        from emollm.model.checkpoint import default_model
        from emollm.serve.transformers_engine import TransformersEngine

        self.options = list(words(card).values())
        self.engine = engine or TransformersEngine(default_model())
        self.chooser = Chooser(llm or str(fetch("llm")), self.engine.model.device)

    def describe(self) -> dict[str, str]:
        import transformers

        return {
            "model": f"language model without adapters ({PARTS['llm'].key})",
            "options": ", ".join(self.options),
            "decoding": "log-likelihood of each option and the end of the turn",
            "transformers": transformers.__version__,
            "answers": "clips with a face or a voice",
        }

    def prepare(self, sample: Sample, question: str) -> tuple[str, Measured]:
        """The prompt, and what the towers measured."""
        from emollm.api import clip_inputs
        from emollm.media.clip import read_clip
        from emollm.perceive import perceive
        from emollm.reading import choose_people

        clip = read_clip(sample.clip, transcript=sample.transcript)
        if sample.start_s is not None or sample.end_s is not None:
            clip = cut(clip, sample.start_s or 0.0, sample.end_s)
        perception = perceive(clip, face_crop=sample.face_crop)
        found = measured(self.engine.encode(clip_inputs(perception, choose_people(perception, "main")[0])))
        said = " ".join(segment.text for segment in clip.transcript)
        face = found.aus if perception.people else None
        return prompt(face, perception.prosody, said, question, self.options), found

    def answer(self, prepared: list[tuple[str, Measured]], think: bool) -> list[Reply]:
        chosen = self.chooser([text for text, _ in prepared], self.options)
        return [
            Reply(
                text=f"<answer>{self.options[int(shares.argmax())]}: the likeliest of the options.</answer>",
                distribution=normalised(dict(zip(self.options, shares.tolist(), strict=True))),
                measured=found,
                prompt_sha256=sha256(text.encode()).hexdigest(),
            )
            for (text, found), shares in zip(prepared, chosen, strict=True)
        ]


def prompt(aus: dict[str, float] | None, prosody: Prosody | None, said: str, question: str, options: list[str]) -> str:
    """What was measured, in words and numbers, and the question with its options."""
    lines = []
    if aus is None:
        lines.append("Face: not visible.")
    else:
        present = sorted(((v, code) for code, v in aus.items() if v >= PRESENT and code != BLINK), reverse=True)
        units = ", ".join(f"{AU_NAMES[code]} ({code}) {value:.1f}" for value, code in present)
        lines.append(f"Face, muscle actions from 0 to 5: {units or 'none, the face is at rest'}.")
    if prosody is None:
        lines.append("Voice: not heard.")
    else:
        pitch = "" if prosody.pitch_hz is None else f"pitch {prosody.pitch_hz:.0f} Hz, "
        lines.append(
            f"Voice: {pitch}level {prosody.energy_db:.0f} dB, {prosody.rate:.1f} syllables per second; "
            f"{prosody.summary()}."
        )
    if words_said := neutralise(said[:MAX_TRANSCRIPT]):
        lines.append(f'Said: "{words_said}"')
    lines.append(f"{neutralise(question)} Answer with one word: {', '.join(options[:-1])} or {options[-1]}.")
    return "\n".join(lines)


class Chooser:
    """A causal language model that says how likely each of a few replies is."""

    def __init__(self, folder: str, device: Any = "cpu"):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().to(device)

    def __call__(self, prompts: list[str], options: list[str]) -> np.ndarray:
        """``(B, K)`` probability of each option as the whole reply to each prompt; rows sum to 1.

        Every prompt is read once; its cached states are then shared by the options.
        """
        import torch

        chats = [
            self.tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
            )
            for text in prompts
        ]
        read = self.tokenizer(
            chats, add_special_tokens=False, return_tensors="pt", padding=True, padding_side="left"
        ).to(self.model.device)
        replies = [self.tokenizer.encode(option, add_special_tokens=False) for option in options]
        replies = [[*reply, self.tokenizer.eos_token_id] for reply in replies]
        longest = max(map(len, replies))
        ids = torch.tensor([reply + [self.tokenizer.pad_token_id] * (longest - len(reply)) for reply in replies])
        real = torch.tensor([[1] * len(reply) + [0] * (longest - len(reply)) for reply in replies])
        ids, real = (part.to(self.model.device).repeat(len(prompts), 1) for part in (ids, real))  # (B * K, L)
        with torch.inference_mode():
            mask = read.attention_mask
            prefix = self.model(
                input_ids=read.input_ids,
                attention_mask=mask,
                position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
                logits_to_keep=1,
                use_cache=True,
            )
            states = prefix.past_key_values
            states.batch_repeat_interleave(len(options))
            lengths = mask.sum(-1).repeat_interleave(len(options))[:, None]
            rest = self.model(
                input_ids=ids,
                attention_mask=torch.cat([mask.repeat_interleave(len(options), 0), real], -1),
                position_ids=lengths + torch.arange(longest, device=ids.device),
                past_key_values=states,
            ).logits[:, :-1]
            logits = torch.cat([prefix.logits.repeat_interleave(len(options), 0), rest], 1)
            tokens = logits.float().log_softmax(-1).gather(-1, ids[..., None])[..., 0]
            return (tokens * real).sum(-1).view(len(prompts), len(options)).softmax(-1).double().cpu().numpy()
