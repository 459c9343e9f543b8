"""Registering schemas and task definitions at start."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import UNSET

from podium.backoff import Backoff
from podium.errors import DeclarationError, NotFoundError, PodiumError
from podium.models import SchemaDef, TaskDef

if TYPE_CHECKING:
    from podium.client import AsyncClient
    from podium.registry import Worker

logger = logging.getLogger(__name__)


#: Pauses between rounds for what could not be registered.
_AGAIN: Final = Backoff(1.0, 60.0, jitter=0.2)
#: The server's own value, which must not exceed the timeout of an attempt.
_DEFAULT_RESPONSE_TIMEOUT: Final = 3600
_SCHEMA_FIELDS: Final = ("inputSchema", "outputSchema")


async def keep_registering(client: AsyncClient, workers: Iterable[Worker], tried: asyncio.Event) -> None:
    """Register what the workers ask for, again and again until the server has it all or has refused it.

    ``tried`` is set after the first round.
    """
    registration, rounds = Registration(client, workers), 0
    try:
        while await registration.attempt(quiet=rounds > 0):
            tried.set()
            rounds += 1
            await asyncio.sleep(_AGAIN.delay(rounds))
    finally:
        tried.set()


class Registration:
    """The schemas and task definitions of workers on their way to the server; one per start.

    Workers of one name, in several domains, share a definition and schemas: the first one that asks decides.

    - Schemas of ``register_schema`` go to the server's schema registry, all in one request, and the definitions of
      ``register_task_def`` link them. Where that fails, or there is no registry, they are inlined in the definitions.
    - An absent definition is created from the worker's template. An existing one is left alone without
      ``overwrite_task_def``, and otherwise gets what the code states and keeps all else, known to podium or not: an
      operator's settings are not reset. What is so already is not sent again.

    A failure is a warning: the worker can poll all the same.
    """

    def __init__(self, client: AsyncClient, workers: Iterable[Worker]) -> None:
        self._client = client
        self._workers: dict[str, Worker] = {}
        self._schemas: dict[str, dict[str, SchemaDef]] = {}
        for worker in workers:
            if worker.options.register_task_def:
                self._workers.setdefault(worker.task_definition_name, worker)
            if worker.options.register_schema and worker.task_definition_name not in self._schemas:
                self._schemas[worker.task_definition_name] = _schemas_of(worker)
        #: Names whose definition the server is still to get.
        self._waiting = list(self._workers)
        self._schemas_wait = any(self._schemas.values())
        self._linked = False

    async def attempt(self, *, quiet: bool = False) -> bool:
        """Register what is left, the definitions all at once; return whether another try may help.

        ``quiet`` (default False) leaves out warnings of failures that will be tried again.
        """
        if self._schemas_wait:
            await self._register_schemas(quiet=quiet)
        done = await asyncio.gather(*(self._settle(name, quiet=quiet) for name in self._waiting))
        self._waiting = [name for name, settled in zip(self._waiting, done, strict=True) if not settled]
        return bool(self._waiting) or self._schemas_wait

    async def _register_schemas(self, *, quiet: bool) -> None:
        schemas = [schema for pair in self._schemas.values() for schema in pair.values()]
        try:
            await self._client.register_schemas(schemas)
        except NotFoundError as error:
            logger.debug("the server has no schema registry, schemas go into task definitions only: %s", error)
            self._schemas_wait = False
        except PodiumError as error:
            self._schemas_wait = _warn("the workers' schemas", error, quiet=quiet)
        else:
            logger.info("schemas were registered: %s", ", ".join(schema.name for schema in schemas))
            self._schemas_wait, self._linked = False, True

    async def _settle(self, name: str, *, quiet: bool) -> bool:
        """Register one definition; return False if it is worth another try."""
        try:
            await self._register(name)
        except PodiumError as error:
            return not _warn(f"task definition {name!r}", error, quiet=quiet)
        return True

    async def _register(self, name: str) -> None:
        options = self._workers[name].options
        template = (options.task_def or TaskDef()).to_dict()
        schemas = {field: schema.to_dict() for field, schema in self._schemas.get(name, {}).items()}
        stated = schemas | template | {"name": name}
        try:
            existing = await self._client.get_task_def_json(name)
        except NotFoundError:
            definition = {field: self._sent(name, field, value) for field, value in stated.items()}
            await self._client.register_task_def(msgspec.convert(_acceptable(definition, template), TaskDef))
            logger.info("task definition %r was created", name)
            return
        changed = {
            field: sent
            for field, value in stated.items()
            if not _is_so(field, existing.get(field), sent := self._sent(name, field, value), value)
        }
        if not changed or not options.overwrite_task_def:
            return
        await self._client.update_task_def(_acceptable(existing | changed, template))
        logger.info("task definition %r was updated: %s", name, ", ".join(sorted(changed)))

    def _sent(self, name: str, field: str, value: Any) -> Any:
        """Return a value of a definition as it is sent: of a registered schema all but the data."""
        generated = self._schemas.get(name, {}).get(field)
        if not self._linked or generated is None or value != generated.to_dict():
            return value
        return {key: part for key, part in value.items() if key != "data"}


def _schemas_of(worker: Worker) -> dict[str, SchemaDef]:
    """Return the schemas of a worker's function, by the field of the definition, that its template leaves open.

    None, with a warning, for a function of which none can be made.
    """
    from podium.schema import schemas_of  # few programs ask for schemas

    name, template = worker.task_definition_name, worker.options.task_def or TaskDef()
    try:
        schemas = schemas_of(worker.function, strict=worker.options.strict_schema)
    except DeclarationError as error:
        logger.warning("task %r gets no schemas: %s", name, error)
        return {}
    except Exception:  # user classes may raise anything when they are looked at
        logger.warning("task %r gets no schemas", name, exc_info=True)
        return {}
    found = {}
    if template.input_schema is UNSET:
        found["inputSchema"] = SchemaDef(name=f"{name}_input", data=schemas.input)
    if template.output_schema is UNSET and schemas.output is not None:
        found["outputSchema"] = SchemaDef(name=f"{name}_output", data=schemas.output)
    return found


def _warn(what: str, error: PodiumError, *, quiet: bool) -> bool:
    """Say that something could not be registered; return whether another try may help."""
    retryable = bool(getattr(error, "retryable", False))
    if not quiet or not retryable:
        again = "; it will be tried again" if retryable else ""
        logger.warning("%s could not be registered: %s%s", what, error, again)
    return retryable


def _is_so(field: str, existing: Any, sent: Any, value: Any) -> bool:
    """Return whether a definition has a value already. Servers add to a schema, and may fill in the data of a link."""
    if field not in _SCHEMA_FIELDS or not isinstance(existing, dict):
        return bool(existing == value)
    if any(existing.get(key) != part for key, part in sent.items()):
        return False
    return "data" not in value or existing.get("data") in (value["data"], sent.get("data"))


def _acceptable(definition: dict[str, Any], template: dict[str, Any]) -> dict[str, Any]:
    """Return the definition with a response timeout that its own timeout allows, if the template left that open.

    The server refuses a response timeout above the timeout of an attempt, and its default is an hour: stating
    ``timeout_seconds`` alone would never be accepted.
    """
    limit = _seconds(definition, "timeoutSeconds", 0)
    if "responseTimeoutSeconds" in template or limit <= 0:
        return definition
    if _seconds(definition, "responseTimeoutSeconds", _DEFAULT_RESPONSE_TIMEOUT) <= limit:
        return definition
    return definition | {"responseTimeoutSeconds": limit}


def _seconds(definition: dict[str, Any], field: str, default: float) -> float:
    """Return a number of a definition; the default for what a server has put in its place, such as null."""
    value = definition.get(field)
    return value if isinstance(value, (int, float)) else default
