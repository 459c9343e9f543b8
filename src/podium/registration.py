"""Registering task definitions at start."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from podium.errors import NotFoundError, PodiumError
from podium.models import TaskDef

if TYPE_CHECKING:
    from collections.abc import Iterable

    from podium.client import AsyncClient
    from podium.registry import Worker

logger = logging.getLogger(__name__)


async def register_task_definitions(client: AsyncClient, workers: Iterable[Worker]) -> None:
    """Register the definitions of the workers that ask for it.

    An absent definition is created from the worker's template. An existing one is left alone without
    ``overwrite_task_def``, and otherwise gets the values that the template states, and keeps all others: an
    operator's settings are not reset. A failure is logged as a warning: the worker can poll all the same.
    """
    done: set[str] = set()
    for worker in workers:
        name = worker.task_definition_name
        if not worker.options.register_task_def or name in done:
            continue
        done.add(name)
        try:
            await _register(client, worker)
        except PodiumError as error:
            logger.warning("task definition %r could not be registered: %s", name, error)


async def _register(client: AsyncClient, worker: Worker) -> None:
    name = worker.task_definition_name
    template = worker.options.task_def or TaskDef()
    stated = {field: value for field in template.__struct_fields__ if (value := getattr(template, field)) is not UNSET}
    stated["name"] = name
    try:
        existing = await client.get_task_def(name)
    except NotFoundError:
        await client.register_task_def(msgspec.structs.replace(template, name=name))
        logger.info("task definition %r was created", name)
        return
    changed = {field: value for field, value in stated.items() if getattr(existing, field) != value}
    if not changed or not worker.options.overwrite_task_def:
        return
    await client.update_task_def(msgspec.structs.replace(existing, **changed))
    logger.info("task definition %r was updated: %s", name, ", ".join(sorted(changed)))
