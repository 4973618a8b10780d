"""The ``llava-face`` command."""

from __future__ import annotations

import sys

import typer
from rich.console import Console
from rich.text import Text

from ..errors import FaceError
from . import (
    adapter,
    attributes,
    convert,
    doctor,
    evaluate,
    frames,
    knowledge,
    maps,
    overlay,
    plan,
    prepare,
    segment,
    stages,
    switch,
    tasks,
    tiny_model,
)


class _App(typer.Typer):
    """Shows the package's own errors as one message, without a traceback; exit code 1."""

    def __call__(self, *args: object, **kwargs: object) -> object:
        try:
            return super().__call__(*args, **kwargs)
        except FaceError as error:
            Console(stderr=True).print(Text.assemble(("error: ", "red"), str(error)), soft_wrap=True)
            sys.exit(1)


app = _App(
    name="llava-face",
    help="Face mode for LLaVA: switch it on, prepare data, check an installation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in (
    switch, doctor, adapter, convert, prepare, frames, stages, knowledge, segment, maps, overlay, plan, attributes,
    tasks, evaluate, tiny_model,
):  # fmt: skip
    command.register(app)


if __name__ == "__main__":
    app()
