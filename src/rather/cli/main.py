"""The command line: one word for each command, imported when it is called."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from rather import __version__
from rather.errors import UserError, nearest

COMMANDS = {
    "quickstart": "Align a small model on built-in preferences: the whole way in a few minutes.",
    "check": "Is my data sound? Format, broken rows, duplicates, leaks, length bias.",
    "filter": "Keep the best comparisons: clear margins, good prompts, varied ones.",
    "rationales": "Let a model write why each chosen answer is the better one.",
    "train": "Train a model on preferences.",
    "fit-reward": "Fit a reward model to preferences.",
    "sample": "Sample a model's own responses and score them: data for gpo, pad and pnapo.",
    "evaluate": "What did the model learn? Ranking, margins, divergence, answers.",
    "compare-images": "How far is one set of images from another? Fréchet distance of features.",
    "chat": "Talk to a trained model, or to it and the model before side by side.",
    "audit": "What was learned, what leaked? One audit for each question.",
    "report": "Rebuild the report of a run.",
    "study": "Does a paper's claim hold? A small experiment with known truth, and a verdict.",
    "methods": "Every method, with what it needs.",
    "explain": "One method: equation, source, options, curve.",
}
"""Command -> its line in ``rather --help``; ``rather.cli.<command>`` holds a function of that name, or an ``app`` of several
words."""

MODULES = {"explain": "methods", "fit-reward": "fit_reward", "compare-images": "compare_images"}
"""Commands that share another one's module."""


def _module(name: str) -> str:
    return f"rather.cli.{MODULES.get(name, name)}"


class Lazy(TyperGroup):
    """A group whose commands are imported when they are called, so that help costs nothing."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for name in COMMANDS if find_spec(_module(name))]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return _stub(cmd_name) if cmd_name in self.list_commands(ctx) else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            raise UserError(f"no command {args[0]!r}", where="rather", fix=nearest(args[0], self.list_commands(ctx)))
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if ctx.resilient_parsing or name is None else _load(name), rest


def _stub(name: str) -> Any:
    app = typer.Typer(add_completion=False)
    app.command(name, help=COMMANDS[name])(lambda: None)
    return _named(typer.main.get_command(app), name)


def _load(name: str) -> Any:
    module = import_module(_module(name))
    if hasattr(module, "app"):
        return _named(typer.main.get_command(module.app), name)
    function = getattr(module, name, None)
    app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
    app.command(name, context_settings=getattr(module, "CONTEXT", None))(function or module.main)
    return _named(typer.main.get_command(app), name)


def _named(command: Any, name: str) -> Any:
    command.name = name
    return command


app = typer.Typer(cls=Lazy, add_completion=False, context_settings={"help_option_names": ["--help", "-h"]})


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="print the version", is_eager=True)] = False,
) -> None:
    """Preference optimization of generative models, with the audits that belong to it."""
    if version:
        typer.echo(__version__)
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Run the command line; a user's mistake is a message and exit code 2."""
    try:
        code = app(standalone_mode=False)
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        code = 2
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        code = 130
    except typer.Abort:
        code = 1
    except Exception as error:
        show = getattr(error, "show", None)  # a usage error of the argument parser
        if show is None:
            raise
        show()
        code = int(getattr(error, "exit_code", 2))
    sys.exit(code if isinstance(code, int) else 0)
