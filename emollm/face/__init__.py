"""Faces: find them, follow each person, cut out aligned crops and say how good they are.

Importing anything of this room first checks OpenCV, whose build (and MediaPipe) needs system libraries that a bare
machine lacks; without them the user gets one sentence instead of the loader's traceback.
"""

from emollm.errors import EmoLLMError

SYSTEM_LIBRARIES_SENTENCE = (
    "MediaPipe and OpenCV need the system libraries libegl1, libgles2 and libgl1; install them with "
    "'sudo apt-get install -y libegl1 libgles2 libgl1'."
)

try:
    import cv2  # noqa: F401
except ModuleNotFoundError:  # not installed at all: Python's own sentence is right
    raise
except ImportError as error:
    raise EmoLLMError(SYSTEM_LIBRARIES_SENTENCE) from error
