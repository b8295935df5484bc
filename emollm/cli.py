"""The command line ``emollm``: reads the arguments, calls the library, shows the result.

Exit codes: 0 done, 1 something failed inside, 2 bad arguments, 3 unreadable or refused clip, 4 neither face nor voice
in it, 130 stopped by Ctrl-C. Heavy libraries are imported where a command needs them, so that help comes at once.
"""

import json
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, closing, nullcontext, redirect_stdout, suppress
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text

from emollm.batch import Job, Settings, check_clip, check_writable, plan, run
from emollm.data.command import app as data
from emollm.errors import BadArgumentError, EmoLLMError
from emollm.eval.command import EngineOption
from emollm.eval.command import app as evaluation
from emollm.quiet import quiet
from emollm.serve.command import serve
from emollm.show import parts_table, print_report, sentence, stages
from emollm.train.grow_command import grow

if TYPE_CHECKING:
    from emollm.api import Chat, EmoLLM
    from emollm.batch import Answer
    from emollm.reading import Reading
    from emollm.report import EmotionReport

EXAMPLE = "example"  # this word for a clip means the example clip, unless a file has that name

app = typer.Typer(
    help="Ask a video clip how someone feels, and get an answer whose evidence can be checked.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
models = typer.Typer(help="The pretrained parts: list them, fetch them ahead, read the model card.")
app.add_typer(models, name="models", no_args_is_help=True)
data.command()(grow)
app.add_typer(data, name="data")
app.add_typer(evaluation, name="eval")
app.command()(serve)


def _person(value: str) -> str:
    if value not in ("main", "all") and not (value.isdecimal() and int(value) > 0):
        raise typer.BadParameter("must be main, all, or a number from 1")
    return value


ModelOption = Annotated[
    str | None,
    typer.Option(help="Model: a folder or a hub id, or its name on the server. Default: the embedded one."),
]
PersonOption = Annotated[str, typer.Option(callback=_person, metavar="main|all|N", help="Whom to look at.")]
TranscriptOption = Annotated[
    str,
    typer.Option(
        metavar="auto|none|asr|FILE",
        help="What is said: subtitles of the clip (auto), nothing, speech recognition, or a subtitle file.",
    ),
]
ThinkOption = Annotated[bool, typer.Option("--think/--no-think", help="Reason before answering, or answer directly.")]
FaceCropOption = Annotated[bool, typer.Option("--face-crop", help="The picture is already a cut-out face.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show tracebacks and what libraries print.")]


@app.command()
def analyze(
    clips: Annotated[
        list[Path], typer.Argument(metavar="CLIP", help="Video, picture or sound files, folders, or 'example'.")
    ],
    question: Annotated[str | None, typer.Option(help="What to ask about the clip.")] = None,
    engine: EngineOption = "auto",
    model: ModelOption = None,
    person: PersonOption = "main",
    transcript: TranscriptOption = "auto",
    think: ThinkOption = True,
    face_crop: FaceCropOption = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report as JSON (a line per clip if many).")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for report.json, action_units.csv, timeline.png.")] = None,
    debug: DebugOption = False,
) -> None:
    """Say how someone in a clip feels, and show the evidence.

    With several clips or a folder, results appear one by one, and a clip that fails is reported and passed over.
    With --out each clip then gets a folder of its own, and the same command run again goes on where it stopped.
    """
    settings = Settings(question, engine, model, person, transcript, think, face_crop)
    if out is not None:
        check_writable(out)
    single = len(clips) == 1 and not os.path.isdir(clips[0])
    jobs = [Job(_named(clips[0]), "")] if single else plan([_named(clip) for clip in clips])
    if transcript not in ("auto", "none", "asr") and len(jobs) > 1:
        raise BadArgumentError("One transcript cannot fit several clips; put a .srt of the same name beside each.")
    result, notes = Console(file=sys.stdout), Console(file=sys.stderr)

    def read_one(job: Job) -> "Reading":
        from emollm.reading import read

        return read(job.clip, person=person, transcript=transcript, face_crop=face_crop, on_stage=on_stage)

    def load() -> "Answer":
        loaded = _load(settings, notes)

        def answer(readings: "list[Reading]") -> "list[EmotionReport]":
            if on_stage:
                on_stage("answer", 0, None)
            return loaded.answer(readings, question, think=think)

        return answer

    codes: list[int] = []
    with (
        open(os.devnull, "w") as nowhere,
        redirect_stdout(sys.stderr if debug else nowhere),  # but for `result`
        ExitStack() as moving,  # stands still while a result is printed
        closing(run(jobs, settings, read_one, load, out, resume=not single)) as outcomes,
    ):
        on_stage = moving.enter_context(stages(notes)) if single else None
        try:
            for outcome in outcomes:
                moving.close()
                codes.append(outcome.exit_code)
                folder = out / outcome.job.name if out is not None else None
                if outcome.error is not None:
                    _complain(outcome.error, notes, debug, "" if single else f"{outcome.job.clip.name}: ")
                elif outcome.report is None:
                    continue
                elif as_json:
                    print(outcome.report.model_dump_json(indent=2 if single else None), file=result.file, flush=True)
                elif outcome.kept:
                    sentence(notes, f"{outcome.job.clip.name}: done before, see {folder}.")
                else:
                    print_report(result, outcome.report, folder)
                if notes.is_terminal and len(codes) < len(jobs):
                    moving.enter_context(notes.status(f"{len(codes)} of {len(jobs)} clips are done"))
        except KeyboardInterrupt:
            moving.close()
            again = "; the same command goes on from there" if out is not None else ""
            sentence(notes, "Stopped." if single else f"Stopped after {len(codes)} of {len(jobs)} clips{again}.")
            raise
    if not single:
        sentence(notes, f"{codes.count(0)} of {len(jobs)} clips are done.")
    raise typer.Exit(max(codes))


@app.command()
def chat(
    clip: Annotated[Path, typer.Argument(help="A video, picture or sound file, or 'example'.")],
    engine: EngineOption = "auto",
    model: ModelOption = None,
    person: PersonOption = "main",
    transcript: TranscriptOption = "auto",
    think: ThinkOption = True,
    face_crop: FaceCropOption = False,
    debug: DebugOption = False,
) -> None:
    """Talk about a clip: it is read once, then ask as often as you like.

    Questions come from the keyboard, or one a line from standard input; /exit or the end of input ends the talk.
    """
    result, notes = Console(file=sys.stdout), Console(file=sys.stderr)
    clip = _named(clip)
    check_clip(clip)
    loaded = _load(Settings(None, engine, model, person, transcript, think, face_crop), notes)
    with stages(notes) as on_stage:
        talk = loaded.chat(
            clip, person=person, transcript=transcript, think=think, face_crop=face_crop, on_stage=on_stage
        )
    for warning in talk.warnings:
        sentence(notes, f"Note: {warning}", "yellow")
    if sys.stdin.isatty():
        sentence(notes, "Ask about the clip; /exit ends.", "dim")
    code = 0
    for question in _questions():
        try:
            _answer(talk, question, result, notes)
        except BadArgumentError as error:  # of this question; the next may be answered
            _complain(error, notes, debug)
            code = error.exit_code
    raise typer.Exit(code)


def _questions() -> Iterator[str]:
    prompt = "> " if sys.stdin.isatty() and sys.stdout.isatty() else ""
    with suppress(ImportError):
        import readline  # noqa: F401, gives the prompt a history and editing keys
    while True:
        try:
            line = input(prompt).strip()
        except EOFError:
            return
        if line == "/exit":
            return
        if line:
            yield line


def _answer(talk: "Chat", question: str, result: Console, notes: Console) -> None:
    """Stream one answer to ``result``; the thought before it goes to ``notes``, so that a pipe gets answers only."""
    pieces = talk.ask(question)
    with notes.status("Thinking"):
        first = next(pieces, "")
    if talk.thought:
        sentence(notes, talk.thought.strip(), "dim")
    for piece in (first, *pieces):
        print(piece, end="", file=result.file, flush=True)
    print(file=result.file, flush=True)


@models.command("list")
def list_models() -> None:
    """List the pretrained parts: licence, size, and whether they are cached."""
    Console().print(parts_table())


@models.command()
def pull(names: Annotated[list[str] | None, typer.Argument(metavar="PART", help="Default: all.")] = None) -> None:
    """Fetch pretrained parts ahead, so that later runs need no network."""
    from emollm.weights import cache_dir
    from emollm.weights import pull as fetch_all

    fetched = fetch_all(names or None)
    sentence(Console(), f"{', '.join(fetched)}: ready in {cache_dir()}.")


@models.command()
def card() -> None:
    """Show the model card of the embedded default model."""
    try:
        text = files("emollm").joinpath("checkpoints", "tiny", "README.md").read_text(encoding="utf-8")
    except OSError as error:
        raise EmoLLMError("This installation holds no model card.") from error
    console = Console()
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        print(text, end="")


@app.command()
def train(
    stage: Annotated[
        Literal["face", "voice", "sft", "grpo", "ablation"],
        typer.Argument(
            help="Face tower, voice head, or language model: by examples (sft), then by rewards (grpo);"
            " or several ways of that held against each other (ablation)."
        ),
    ],
    recipe: Annotated[Path, typer.Argument(help="A name such as tiny/face, or the path of a YAML file.")],
    changes: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Overrides.")] = None,
    debug: DebugOption = False,
) -> None:
    """Train a part of the model by a recipe; prints its scores as JSON."""
    kinds = {
        "face": "FaceRecipe",
        "voice": "VoiceRecipe",
        "sft": "SFTRecipe",
        "grpo": "GRPORecipe",
        "ablation": "AblationRecipe",
    }
    for change in changes or []:
        if "=" not in change:
            raise BadArgumentError(f"'{change}' is not of the form key=value.")
    from emollm.data.cards import find_card
    from emollm.train.recipe import load_recipe

    recipe = find_card("train", recipe)
    room = import_module(f"emollm.train.{stage}")
    scores = getattr(room, f"train_{stage}")(load_recipe(getattr(room, kinds[stage]), recipe, changes))
    print(json.dumps(scores, default=float))


def _named(clip: Path) -> Path:
    if str(clip) != EXAMPLE or clip.exists():
        return clip
    from emollm.weights import fetch

    return fetch("example_clip")


def _load(settings: Settings, notes: Console) -> "EmoLLM":
    if notes.is_terminal:
        sentence(notes, "Loading the model ...", "dim")
    from emollm.api import EmoLLM

    return EmoLLM.from_pretrained(settings.model, engine=settings.engine)


def _complain(error: BaseException, notes: Console, debug: bool, where: str = "") -> None:
    if debug:
        notes.print(Text("".join(traceback.format_exception(error))), soft_wrap=True)
    if isinstance(error, EmoLLMError):
        text = str(error)
    else:
        said = (str(error).strip().splitlines() or [""])[0]
        text = f"Unexpected {type(error).__name__}{f' ({said})' if said else ''}: run with --debug for details."
    sentence(notes, where + text, "red")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code; every error becomes one sentence."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    with nullcontext() if debug else quiet():
        code = _run(arguments, debug)
    sys.exit(code)


def _run(arguments: list[str], debug: bool) -> int:
    try:
        return app(args=arguments, prog_name="emollm", standalone_mode=False) or 0
    except typer.TyperException as error:  # wrong usage, or the help asked for by giving no arguments
        sys.stderr.write(error.format_message() + "\n")
        return error.exit_code
    except BrokenPipeError:  # whoever read the output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        _complain(error, Console(file=sys.stderr), debug)
        return error.exit_code if isinstance(error, EmoLLMError) else 1
