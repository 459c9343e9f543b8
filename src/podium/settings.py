"""Worker options from the environment: one variable for one worker, or for all of them.

    CONDUCTOR_WORKER_<NAME>_<PROPERTY>   conductor.worker.<name>.<property>   conductor_worker_<name>_<property>
    CONDUCTOR_WORKER_ALL_<PROPERTY>      conductor.worker.all.<property>      conductor_worker_<property>

A variable for one worker wins over one for all, which wins over the code, which wins over the default; each property
by itself. The property is an option or another name of it, in any case. <NAME> is the worker's name as it is, in
capitals, or in the only form that every shell can export: in capitals with ``_`` for whatever is no letter or digit
and between the words of camelCase, such as ``MY_TASK_V2`` for ``my-task.v2`` and ``MY_TASK`` for ``myTask``.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from podium.bundle import Bundle
from podium.errors import ConfigError
from podium.options import ENVIRONMENT_NAMES, OPTION_NAMES, read_option
from podium.registry import CODE

if TYPE_CHECKING:
    from podium.config import Configuration
    from podium.registry import Worker

logger = logging.getLogger(__name__)

_PREFIXES: Final = ("conductor.worker.", "conductor_worker_")
#: The name that stands for all workers.
_ALL: Final = "ALL"
#: What Kubernetes sets in all containers for a service whose name begins with "conductor-worker": names and values.
_SERVICE_NAME: Final = re.compile(r"(.*_)?(SERVICE_(HOST|PORT(_.+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
_SERVICE_TEXT: Final = re.compile(r"(tcp|udp|sctp)://.*")
#: How alike a misspelt word must be to a known one to be taken for it.
_ALIKE: Final = 0.75


class Variable(Bundle, frozen=True):
    """An environment variable that sets an option. ``worker`` is the name as it is written, empty for all workers."""

    name: str
    text: str
    worker: str
    option: str

    def value(self) -> Any:
        """Return the option's value; raises ConfigError with what is expected."""
        try:
            return read_option(self.option, self.text)
        except ValueError as error:
            raise ConfigError(f"environment variable {self.name}={self.text!r}: expected {error}") from None

    def names(self, worker: str) -> bool:
        """Whether it is for the worker of that name."""
        return self.worker == worker or self.worker.upper() in _capitals(worker)


def resolve_workers(
    workers: Iterable[Worker], configuration: Configuration, environment: Mapping[str, str] | None = None
) -> list[Worker]:
    """Return the workers with the values that hold, each with its source.

    ``environment`` defaults to the process's. Raises ConfigError for a variable with a value that is not allowed;
    a variable that looks like one of these and sets nothing is a warning that names what may have been meant.
    """
    declared = list(workers)
    names = {worker.task_definition_name for worker in declared}
    variables, strangers = _variables(os.environ if environment is None else environment)
    for name in strangers:
        logger.warning("environment variable %s sets no option of a worker%s", name, _meant(name))
    for variable in variables:
        _check(variable, names)
    if any(name.upper() == _ALL for name in names):
        logger.warning("a worker is named 'all': environment variables for that name are for all workers")
    overridden: dict[str, str] = {}
    resolved = [_resolved(worker, configuration, variables, names, overridden) for worker in declared]
    for what, by in overridden.items():
        logger.warning("%s is overridden by %s", what, by)
    return resolved


def set_for_all(option: str, text: str, environment: MutableMapping[str, str] = os.environ) -> None:
    """Let an option have that value for all workers, whatever variables for all of them say now, in any spelling."""
    for variable in _variables(environment)[0]:
        if variable.option == option and not variable.worker:
            del environment[variable.name]
    environment[f"CONDUCTOR_WORKER_ALL_{option.upper()}"] = text


def rows_of(worker: Worker) -> list[tuple[str, str, str]]:
    """Return property, value and source of every option of a worker, as text."""
    return [(name, str(getattr(worker.options, name)), worker.sources[name]) for name in OPTION_NAMES]


def _resolved(
    worker: Worker,
    configuration: Configuration,
    variables: list[Variable],
    names: set[str],
    overridden: dict[str, str],
) -> Worker:
    name = worker.task_definition_name
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for option in dict.fromkeys(ENVIRONMENT_NAMES.values()):
        candidates = [variable for variable in variables if variable.option == option]
        own = [v for v in candidates if v.names(name) and (v.worker == name or v.worker not in names)]
        of_all = [variable for variable in candidates if not variable.worker]
        chosen = _first(own, overridden) or _first(of_all, overridden)
        if chosen is not None:
            values[option], sources[option] = chosen.value(), chosen.name
    if values.get("register_schema", worker.options.register_schema) is None:
        values["register_schema"] = configuration.register_schema
        source = configuration.sources["register_schema"]
        sources["register_schema"] = "Configuration" if source == CODE else source
    return worker.with_values(values, sources)


def _first(variables: list[Variable], overridden: dict[str, str]) -> Variable | None:
    """Return the variable that counts; note which other spellings of it have another value."""
    if not variables:
        return None
    chosen, *others = sorted(variables, key=_spelling)
    for other in others:
        if other.value() != chosen.value():
            overridden[f"{other.name}={other.text!r}"] = f"{chosen.name}={chosen.text!r}"
    return chosen


def _spelling(variable: Variable) -> tuple[bool, bool, str]:
    """Order the spellings: the dotted one first, then the capital ones."""
    return not variable.name.lower().startswith(_PREFIXES[0]), not variable.name.isupper(), variable.name


def _variables(environment: Mapping[str, str]) -> tuple[list[Variable], list[str]]:
    """Return the variables that set options, and the names of those that only look as if they did."""
    variables: list[Variable] = []
    strangers: list[str] = []
    for name, text in sorted(environment.items()):
        rest = _rest(name)
        if rest is None or _SERVICE_NAME.fullmatch(rest) or _SERVICE_TEXT.fullmatch(text):
            continue
        for worker, word in _splits(rest):
            option = ENVIRONMENT_NAMES.get(word.lower())
            if option is not None:
                variables.append(Variable(name, text, "" if worker.upper() == _ALL else worker, option))
                break
        else:
            strangers.append(name)
    return variables, strangers


def _rest(name: str) -> str | None:
    """Return what follows the prefix; None for a variable about something else."""
    prefix = next((prefix for prefix in _PREFIXES if name.lower().startswith(prefix)), None)
    return None if prefix is None else name[len(prefix) :]


def _splits(rest: str) -> Iterator[tuple[str, str]]:
    """Return the ways to read ``<name>_<property>``, the longest property first."""
    yield "", rest
    for separator in re.finditer(r"(?<=.)[._]", rest):  # a name that is empty must not mean all workers
        yield rest[: separator.start()], rest[separator.end() :]


def _check(variable: Variable, names: set[str]) -> None:
    """Refuse a value that is not allowed, also one that is overridden; say so if a name is nearly a worker's."""
    if not variable.worker or any(variable.names(name) for name in names):
        variable.value()
        return
    import difflib  # for whoever mistypes

    forms = {form: name for name in names for form in _capitals(name)}
    near = difflib.get_close_matches(variable.worker.upper(), forms, n=1, cutoff=_ALIKE)
    if near:
        logger.warning("environment variable %s: no worker is named so; did you mean %r, as %s?",
                       variable.name, forms[near[0]], near[0])  # fmt: skip
    else:
        logger.debug("environment variable %s is for a worker that does not run here", variable.name)


def _meant(name: str) -> str:
    """Return a hint at the nearest variable that would set something; empty if none is near."""
    import difflib

    rest = _rest(name) or ""
    best, nearest = _ALIKE, ""
    for _, word in _splits(rest):
        for known in ENVIRONMENT_NAMES:
            ratio = difflib.SequenceMatcher(None, word.lower(), known).ratio()
            if ratio > best:
                best, nearest = ratio, name[: len(name) - len(word)] + (known.upper() if word.isupper() else known)
    return f"; did you mean {nearest}?" if nearest else f"; properties: {', '.join(ENVIRONMENT_NAMES)}"


def _capitals(name: str) -> set[str]:
    """Return the capital forms of a worker's name."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return {name.upper(), *(re.sub(r"\W", "_", form, flags=re.ASCII).upper() for form in (name, words))}
