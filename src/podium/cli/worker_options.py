"""The options of workers on the command line, from the one list of options."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from podium.options import ENVIRONMENT_NAMES, OPTIONS, read_option

_SETTABLE = [option for option in OPTIONS if option.name in ENVIRONMENT_NAMES]


def with_worker_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each option of a worker; what was not given is None. They replace ``**kwargs``."""

    @functools.wraps(command)
    def call(*args: Any, **kwargs: Any) -> None:
        for option in _SETTABLE:
            _check(option.name, kwargs[option.name])
        command(*args, **kwargs)

    signature = inspect.signature(command, eval_str=True)
    own = [parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
    added = [
        inspect.Parameter(
            option.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                str | None,
                typer.Option(
                    _flag(option.name),
                    metavar="VALUE",
                    help=f"All workers: {option.metadata['doc']}.",
                    show_default=False,
                ),
            ],
        )
        for option in _SETTABLE
    ]
    call.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in [*own, *added]}
    return call


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _check(name: str, text: str | None) -> None:
    try:
        if text is not None:
            read_option(name, text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: expected {error}", param_hint=_flag(name)) from None


def environment_help() -> str:
    """Return a text on the environment variables that set options of workers."""
    names = ", ".join(option.name for option in _SETTABLE)
    return (
        "Environment: CONDUCTOR_WORKER_<NAME>_<PROPERTY> for one worker, CONDUCTOR_WORKER_ALL_<PROPERTY> for all; "
        f"<NAME> is the worker's name in capitals, with _ for what is no letter or digit. Properties: {names}."
    )
