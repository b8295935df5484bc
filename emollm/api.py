"""The Python API: load a model, analyse clips, chat about them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from emollm.engines import check_engine, is_url
from emollm.errors import BadArgumentError
from emollm.face.track import FaceTrack
from emollm.model.checkpoint import default_model
from emollm.model.processing_emollm import ClipInputs
from emollm.perceive import Perception, Stage
from emollm.reading import Reading, read
from emollm.reasoning.parse import ParsedAnswer, StreamSplitter, parse_answer
from emollm.reasoning.person import person_report
from emollm.reasoning.prompts import DEFAULT_QUESTION, Message, assistant_message, clip_message, user_message
from emollm.report import ClipSummary, EmotionReport, PersonReport
from emollm.serve.engine import EncodedClip, Engine, Generation, Request
from emollm.serve.load import load_engine
from emollm.voice.prosody import Prosody

MAX_TURNS = 8  # of the past that a chat keeps in mind, beside its first
OnText = Callable[[str, str], None]  # channel "thought" or "answer", piece of text


class EmoLLM:
    """A loaded model.

    >>> model = EmoLLM.from_pretrained()
    >>> report = model.analyze("clip.mp4")
    >>> report.answer
    """

    def __init__(self, engine: Engine, name: str):
        self.engine, self.name = engine, name

    @classmethod
    def from_pretrained(
        cls, model: str | Path | None = None, *, engine: str = "auto", progress: bool = True
    ) -> EmoLLM:
        """Load the embedded default (None), a folder, or a hub id.

        With the URL of a server as ``engine``, ``model`` is the model's name there (None: the only one it serves), and
        its claims are held against what the default model's towers measure here.

        Raises:
            BadArgumentError: unknown engine. EngineError: what the engine needs is not there, or a server fails.
            WeightsError: a part cannot be fetched or the folder holds no EmoLLM checkpoint.
        """
        check_engine(engine)
        if is_url(engine):
            from emollm.serve.remote_engine import RemoteEngine

            remote = RemoteEngine(engine, default_model(progress), None if model is None else str(model))
            return cls(remote, remote.model)
        if model is None:
            return cls(load_engine(engine, default_model(progress)), "emollm-tiny")
        return cls(load_engine(engine, Path(model)), str(model))

    def analyze(
        self,
        clip: str | Path,
        question: str | None = None,
        *,
        person: str = "main",
        transcript: str = "auto",
        think: bool = True,
        face_crop: bool = False,
        on_stage: Stage | None = None,
        on_text: OnText | None = None,
    ) -> EmotionReport:
        """Analyse one clip.

        Args:
            clip: video, picture or sound file.
            question: None asks how the person feels.
            person: ``"main"``, ``"all"``, or the number of a person in order of prominence, from 1.
            transcript: ``"auto"`` (sidecar file or subtitle track), ``"asr"``, ``"none"`` or a subtitle file.
            think: reason before answering.
            face_crop: the picture already is a crop of one face.
            on_stage: called with stage, units done and units in all, for progress bars.
            on_text: called with channel and text while the answer is written.

        Raises:
            ClipError: unreadable or refused clip. NothingToReadError: no face and no voice. BadArgumentError: no such
            person, unreadable transcript.
        """
        reading = read(clip, person=person, transcript=transcript, face_crop=face_crop, on_stage=on_stage)
        encoded, encoding_s = self._encode(reading)
        started = time.perf_counter()
        generations = []
        for number, one in enumerate(encoded):
            if on_stage:
                on_stage("answer", number, len(encoded))
            generations.append(self._answer([clip_message(question, reading.said)], one, think, on_text))
        answer_s = time.perf_counter() - started
        return self._report(reading, encoded, generations, question, encoding_s, answer_s)

    def answer(
        self, readings: Sequence[Reading], question: str | None = None, *, think: bool = True
    ) -> list[EmotionReport]:
        """Analyse clips that :func:`emollm.reading.read` has read, all in one batch of the engine.

        Replies are those of :meth:`analyze` (but see :meth:`Engine.generate_batch` on near-ties).
        """
        encoded = [self._encode(reading) for reading in readings]
        started = time.perf_counter()
        requests = [
            Request([clip_message(question, reading.said)], clip)
            for reading, (clips, _) in zip(readings, encoded)
            for clip in clips
        ]
        generations = iter(self.engine.generate_batch(requests, think))
        share = (time.perf_counter() - started) / max(len(requests), 1)
        return [
            self._report(
                reading, clips, list(islice(generations, len(clips))), question, encoding_s, share * len(clips)
            )
            for reading, (clips, encoding_s) in zip(readings, encoded)
        ]

    def chat(
        self,
        clip: str | Path,
        *,
        person: str = "main",
        transcript: str = "auto",
        think: bool = True,
        face_crop: bool = False,
        on_stage: Stage | None = None,
    ) -> Chat:
        """Open a conversation about one clip, which is decoded and encoded once. Errors as in :meth:`analyze`."""
        reading = read(clip, person=person, transcript=transcript, face_crop=face_crop, on_stage=on_stage)
        if len(reading.people) != 1:
            raise BadArgumentError("A chat is about one person; give a number instead of 'all'.")
        (encoded,), _ = self._encode(reading)
        return Chat(self.engine, encoded, reading.said, think, reading.perception.warnings)

    def _encode(self, reading: Reading) -> tuple[list[EncodedClip], float]:
        """The clip as the engine wants it, once for each person, and the seconds that took."""
        started = time.perf_counter()
        encoded = [self.engine.encode(clip_inputs(reading.perception, track)) for track in reading.people]
        return encoded, time.perf_counter() - started

    def _answer(self, messages: list[Message], clip: EncodedClip, think: bool, on_text: OnText | None) -> Generation:
        result, splitter = Generation(), StreamSplitter()
        for piece in self.engine.stream(messages, clip, think, result):
            if on_text:
                for channel, text in splitter.feed(piece):
                    on_text(channel, text)
        if on_text:
            for channel, text in splitter.close():
                on_text(channel, text)
        return result

    def _report(
        self,
        reading: Reading,
        encoded: list[EncodedClip],
        generations: list[Generation],
        question: str | None,
        encoding_s: float,
        answer_s: float,
    ) -> EmotionReport:
        perception, clip, warnings = reading.perception, reading.perception.clip, list(reading.perception.warnings)
        people, answers = [], []
        for track, one, generation in zip(reading.people, encoded, generations):
            parsed = parse_answer(generation.text)
            if parsed.error:
                warnings.append(f"The model's reply is not well formed ({parsed.error}); it is shown as written.")
            person = describe_person(parsed, generation.distribution, one, clip.duration_s, track, perception.prosody)
            answer = parsed.answer if parsed.answer is not None else generation.text.strip()
            people.append(person)
            answers.append(answer if len(encoded) == 1 else f"Person {person.id}: {answer}")
        if len(perception.people) > 1 and perception.prosody is not None:
            warnings.append("Several people are seen; the voice is taken to be that of person 1.")
        shown = [track for track in reading.people if track is not None]
        report = EmotionReport(
            clip=ClipSummary(
                path=reading.path,
                duration_s=round(clip.duration_s, 3),
                frames_used=sum(int(track.usable.sum()) for track in shown),
                has_audio=clip.has_audio,
                transcript=reading.said or None,
            ),
            people=people,
            question=question or DEFAULT_QUESTION,
            answer="\n".join(answers),
            model=self.name,
            engine=self.engine.name,
            timings_s={
                "perception": round(reading.seconds, 3),
                "encoding": round(encoding_s, 3),
                "answer": round(answer_s, 3),
                "total": round(reading.seconds + encoding_s + answer_s, 3),
            },
            warnings=list(dict.fromkeys(warnings)),
        )
        report.faces.update({track.id: list(zip(track.times.tolist(), track.crops)) for track in shown})
        return report


class Chat:
    """A conversation about one encoded clip.

    Attributes:
        thought: what the model thought before its last answer, empty when it did not think.
        warnings: sentences about the clip.
    """

    def __init__(self, engine: Engine, clip: EncodedClip, said: str, think: bool, warnings: list[str]):
        self._engine, self._clip, self._said, self._think = engine, clip, said, think
        self._messages: list[Message] = []
        self.thought = ""
        self.warnings = warnings

    def ask(self, question: str) -> Iterator[str]:
        """Yield the answer piece by piece. The turn joins the conversation once it has been read to its end."""
        turn = user_message(question) if self._messages else clip_message(question, self._said)
        splitter, answer, self.thought = StreamSplitter(), "", ""
        for piece in self._engine.stream([*self._memory(), turn], self._clip, self._think):
            for channel, text in splitter.feed(piece):
                if channel == "answer":
                    answer += text
                    yield text
                else:
                    self.thought += text
        for channel, text in splitter.close():
            if channel == "answer":
                answer += text
                yield text
        self._messages += [turn, assistant_message(answer)]

    def _memory(self) -> list[Message]:
        """The first turn, which holds the clip, and the latest ones."""
        return self._messages[:2] + self._messages[2:][-2 * MAX_TURNS :]


def describe_person(
    parsed: ParsedAnswer,
    distribution: dict[str, float],
    clip: EncodedClip,
    duration_s: float,
    track: FaceTrack | None = None,
    prosody: Prosody | None = None,
) -> PersonReport:
    """What was measured of a person, what was answered, and whether the two agree."""
    face = clip.face_readings.numpy() if clip.face_readings is not None else None
    voice = clip.voice_readings.numpy() if clip.voice_readings is not None else None
    starts = np.arange(len(face) if face is not None else 0) * clip.placeholders.window_s
    ends = np.minimum(starts + clip.placeholders.window_s, max(duration_s, 0.0))
    return person_report(
        id=track.id if track is not None else 0,
        box_share=track.box_share if track is not None else 0.0,
        parsed=parsed,
        distribution=distribution,
        windows=np.stack([starts, np.maximum(ends, starts)], axis=1),
        face=face,
        voice=voice,
        prosody=prosody if voice is not None else None,
    )


def clip_inputs(perception: Perception, track: FaceTrack | None) -> ClipInputs:
    """What the model is given of one person. The voice goes with the main person: speakers are not told apart."""
    speaks = track is None or track.id == 1
    return ClipInputs(
        duration_s=perception.clip.duration_s,
        face=track,
        waveform=perception.waveform if speaks else None,
        prosody=perception.prosody if speaks else None,
        source=perception.clip,
    )
