"""Time of a whole analysis of a clip against the bare parts it cannot do without, measured in the same run.

    python benchmarks/analyze.py [--clip FILE] [--model FOLDER] [--repeats 3] [--json]

The bare parts: decoding, MediaPipe's landmarker on the sampled frames, pitch and level of the voice, the two towers on
prepared arrays, and ``generate`` of the same greedy reply from prepared inputs, without streaming. What an analysis
adds is tracking, alignment, quality, packing, streaming, parsing and verification.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import mediapipe
import numpy as np
import torch
from common import Figure, show
from mediapipe.tasks.python import vision

from emollm import EmoLLM
from emollm.api import clip_inputs
from emollm.face.detect import landmarker_options
from emollm.media.clip import Clip, Frame, read_clip
from emollm.model.checkpoint import default_model
from emollm.perceive import FRAMES_PER_SECOND, MAX_FRAMES, perceive
from emollm.reasoning.prompts import clip_message
from emollm.serve.engine import MAX_NEW_TOKENS
from emollm.voice.prosody import measure_prosody
from emollm.weights import fetch


class BareParts:
    """Each part of the analysis by itself, its inputs prepared ahead."""

    def __init__(self, path: Path, model: EmoLLM):
        self.path, self.engine = path, model.engine
        opened, _ = self.decode()
        perception = perceive(opened)
        inputs = clip_inputs(perception, perception.people[0] if perception.people else None)
        encoded = self.engine.encode(inputs)
        processor = self.engine.processor
        said = " ".join(segment.text for segment in opened.transcript)
        text = processor.apply_chat_template(
            [clip_message(None, said)], tokenize=False, add_generation_prompt=True, enable_thinking=True
        )
        tokens = processor.tokenizer(
            processor.expand([text], [encoded.placeholders]), return_tensors="pt", add_special_tokens=False
        )
        device = self.engine.model.device
        self.media = {key: value.to(device) for key, value in processor.pack([inputs]).items()}
        self.prompt = {**tokens.to(device), **encoded.states}

    def decode(self) -> tuple[Clip, list[Frame]]:
        clip = read_clip(self.path)
        fps = min(FRAMES_PER_SECOND, MAX_FRAMES / max(clip.duration_s, 1.0))
        return clip, list(clip.frames(fps)) if clip.has_video else []

    def landmarks(self, frames: list[Frame]) -> None:
        options = landmarker_options(fetch("face_landmarker"), running_mode=vision.RunningMode.IMAGE)
        with vision.FaceLandmarker.create_from_options(options) as landmarker:
            for frame in frames:
                image = np.ascontiguousarray(frame.image)
                landmarker.detect(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image))

    @torch.inference_mode()
    def towers(self) -> None:
        media, model = self.media, self.engine.model
        if "face_pixels" in media:
            model.get_face_features(
                media["face_pixels"], media["face_blendshapes"], media["face_window"], media["face_window_s"]
            )
        if "input_features" in media:
            model.get_audio_features(
                media["input_features"], media["audio_seconds"], media["audio_window_s"], media["audio_prosody"]
            )

    @torch.inference_mode()
    def reply(self) -> int:
        """Greedy reply; returns its number of tokens."""
        out = self.engine.model.generate(**self.prompt, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
        return out.shape[1] - self.prompt["input_ids"].shape[1]

    def one_turn(self) -> tuple[dict[str, float], int]:
        """Seconds of each part, and how many tokens the reply has."""
        seconds = {}
        seconds["decode"], (clip, frames) = timed(self.decode)
        seconds["landmarker"], _ = timed(lambda: self.landmarks(frames))
        sound = clip.waveform if clip.has_audio else None
        seconds["voice"], _ = timed(lambda: None if sound is None else measure_prosody(sound))
        seconds["towers"], _ = timed(self.towers)
        seconds["generate"], count = timed(self.reply)
        return seconds, count


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, help="default: the example clip")
    parser.add_argument("--model", type=Path, help="folder of a merged checkpoint; default: the embedded model")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args()

    path = arguments.clip or fetch("example_clip")
    model = EmoLLM.from_pretrained(arguments.model or default_model())
    bare = BareParts(path, model)
    model.analyze(path)  # warm up
    turns = []
    for number in range(arguments.repeats):  # the contenders take turns in going first
        if number % 2:
            parts, tokens = bare.one_turn()
            ours, report = timed(lambda: model.analyze(path))
        else:
            ours, report = timed(lambda: model.analyze(path))
            parts, tokens = bare.one_turn()
        turns.append((ours, report.timings_s, parts))

    show(
        "analyze",
        [
            Figure("clip_s", report.clip.duration_s, "s"),
            Figure("reply_tokens", tokens),
            Figure("analyze_s", median(ours for ours, _, _ in turns), "s"),
            *(
                Figure(f"analyze_{stage}_s", median(stages[stage] for _, stages, _ in turns), "s")
                for stage in ("perception", "encoding", "answer")
            ),
            Figure("bare_s", median(sum(parts.values()) for _, _, parts in turns), "s"),
            *(
                Figure(f"bare_{name}_s", median(parts[name] for _, _, parts in turns), "s")
                for name in ("decode", "landmarker", "voice", "towers", "generate")
            ),
            Figure(
                "ratio_to_bare",
                median(ours / sum(parts.values()) for ours, _, parts in turns),
                goal=1.25,
                at_most=True,
            ),
        ],
        arguments.json,
    )


if __name__ == "__main__":
    main()
