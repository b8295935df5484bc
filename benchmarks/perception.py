"""Speed of our perception (find, follow, align, judge) against MediaPipe's bare landmarker on the same decoded frames.

    python benchmarks/perception.py [--clip FILE] [--fps 5] [--repeats 5] [--json]

The bare runs use the same options as ours. Image mode looks at every frame afresh, video mode starts from the faces of
the frame before; ours is image mode: with room for eight faces video mode looks afresh as well and saves little, and
its answers depend on what came before.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import mediapipe
import numpy as np
from common import Figure, show
from mediapipe.tasks.python import vision

from emollm.face.detect import FaceLandmarker, landmarker_options
from emollm.face.track import track_faces
from emollm.media.clip import Frame, read_clip
from emollm.weights import fetch


def one_turn(task: Path, frames: list[Frame]) -> tuple[dict[str, float], float]:
    """Seconds of each contender over all frames, and the share of frames in which the main person was found.

    The contenders take turns on every single frame (our tracker pulls its frames, the bare ones run while it waits),
    so that a busy machine slows all of them alike.
    """
    seconds: dict[str, float] = defaultdict(float)
    image_options = landmarker_options(task, running_mode=vision.RunningMode.IMAGE)
    video_options = landmarker_options(task, running_mode=vision.RunningMode.VIDEO)
    with (
        FaceLandmarker(task) as ours,
        vision.FaceLandmarker.create_from_options(image_options) as image_mode,
        vision.FaceLandmarker.create_from_options(video_options) as video_mode,
    ):

        def pack(frame: Frame) -> mediapipe.Image:
            return mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=frame.image)

        bare = {
            "image": lambda frame: image_mode.detect(pack(frame)),
            "video": lambda frame: video_mode.detect_for_video(pack(frame), round(1000 * frame.time_s)),
        }

        def in_turns() -> Iterator[Frame]:
            nonlocal ours_since
            for number, frame in enumerate(frames):
                seconds["ours"] += time.perf_counter() - ours_since
                for name in bare if number % 2 else reversed(bare):
                    start = time.perf_counter()
                    bare[name](frame)
                    seconds[name] += time.perf_counter() - start
                ours_since = time.perf_counter()
                yield frame

        ours_since = time.perf_counter()
        tracking = track_faces(in_turns(), ours)
        seconds["ours"] += time.perf_counter() - ours_since
    found = len(tracking.tracks[0].times) / tracking.frames_seen if tracking.tracks else 0.0
    return seconds, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, help="default: the example clip")
    parser.add_argument("--fps", type=float, default=5.0, help="frames sampled per second of the clip")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args()

    task = fetch("face_landmarker")
    clip = read_clip(arguments.clip or fetch("example_clip"), transcript="none")
    frames = [Frame(frame.time_s, np.ascontiguousarray(frame.image)) for frame in clip.frames(arguments.fps)]
    one_turn(task, frames[:10])  # warm up
    turns = [one_turn(task, frames) for _ in range(arguments.repeats)]

    def speed(name: str) -> float:
        return len(frames) / median(seconds[name] for seconds, _ in turns)

    def ratio(name: str) -> float:
        return median(seconds[name] / seconds["ours"] for seconds, _ in turns)

    show(
        "perception",
        [
            Figure("frames", len(frames)),
            Figure("ours_fps", speed("ours"), "frames/s"),
            Figure("bare_image_mode_fps", speed("image"), "frames/s"),
            Figure("bare_video_mode_fps", speed("video"), "frames/s"),
            Figure("ratio_to_bare", ratio("image"), goal=0.8),
            Figure("ratio_to_bare_video_mode", ratio("video")),
            Figure("main_person_tracked", turns[0][1], "of frames", goal=0.95),
        ],
        arguments.json,
    )


if __name__ == "__main__":
    main()
