"""Registering task definitions at start."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import UNSET

from podium.backoff import Backoff
from podium.errors import NotFoundError, PodiumError
from podium.models import TaskDef

if TYPE_CHECKING:
    from collections.abc import Iterable

    from podium.client import AsyncClient
    from podium.registry import Worker

logger = logging.getLogger(__name__)


#: Pauses between rounds for definitions that could not be registered.
_AGAIN: Final = Backoff(1.0, 60.0, jitter=0.2)
#: The server's own value, which must not exceed the timeout of an attempt.
_DEFAULT_RESPONSE_TIMEOUT: Final = 3600


async def keep_registering(client: AsyncClient, workers: Iterable[Worker], tried: asyncio.Event) -> None:
    """Register the definitions of the workers that ask for it, again and again until the server has them all.

    ``tried`` is set after the first round.
    """
    waiting, rounds = list(workers), 0
    while True:
        waiting = await register_task_definitions(client, waiting, quiet=rounds > 0)
        tried.set()
        if not waiting:
            return
        rounds += 1
        await asyncio.sleep(_AGAIN.delay(rounds))


async def register_task_definitions(
    client: AsyncClient, workers: Iterable[Worker], *, quiet: bool = False
) -> list[Worker]:
    """Register the definitions of the workers that ask for it, all at once; return those worth another try.

    An absent definition is created from the worker's template. An existing one is left alone without
    ``overwrite_task_def``, and otherwise gets the values that the template states, and keeps all others: an
    operator's settings are not reset. A failure is logged as a warning, unless ``quiet``: the worker can poll all
    the same.
    """
    asking = {worker.task_definition_name: worker for worker in reversed(list(workers))
              if worker.options.register_task_def}  # fmt: skip

    async def attempt(name: str, worker: Worker) -> Worker | None:
        try:
            await _register(client, worker)
        except PodiumError as error:
            retryable = bool(getattr(error, "retryable", False))
            if not quiet or not retryable:
                again = "; it will be tried again" if retryable else ""
                logger.warning("task definition %r could not be registered: %s%s", name, error, again)
            return worker if retryable else None
        return None

    results = await asyncio.gather(*(attempt(name, worker) for name, worker in asking.items()))
    return [worker for worker in results if worker is not None]


async def _register(client: AsyncClient, worker: Worker) -> None:
    name = worker.task_definition_name
    template = worker.options.task_def or TaskDef()
    stated = {field: value for field in template.__struct_fields__ if (value := getattr(template, field)) is not UNSET}
    stated["name"] = name
    try:
        existing = await client.get_task_def(name)
    except NotFoundError:
        await client.register_task_def(_acceptable(msgspec.structs.replace(template, name=name), template))
        logger.info("task definition %r was created", name)
        return
    changed = {field: value for field, value in stated.items() if getattr(existing, field) != value}
    if not changed or not worker.options.overwrite_task_def:
        return
    await client.update_task_def(_acceptable(msgspec.structs.replace(existing, **changed), template))
    logger.info("task definition %r was updated: %s", name, ", ".join(sorted(changed)))


def _acceptable(definition: TaskDef, template: TaskDef) -> TaskDef:
    """Return the definition with a response timeout that its own timeout allows, if the template left that open.

    The server refuses a response timeout above the timeout of an attempt, and its default is an hour: stating
    ``timeout_seconds`` alone would never be accepted.
    """
    limit, response = definition.timeout_seconds, definition.response_timeout_seconds
    if template.response_timeout_seconds is not UNSET or limit is UNSET or limit <= 0:
        return definition
    if (_DEFAULT_RESPONSE_TIMEOUT if response is UNSET else response) <= limit:
        return definition
    return msgspec.structs.replace(definition, response_timeout_seconds=limit)
