"""The demo's workers: one module that worker processes import by name.

Four shapes of a task: a check that sometimes fails and is retried, a coroutine, a plain function, and a task that
takes longer than one call.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from podium.context import TaskInProgress, get_task_context
from podium.errors import NonRetryableException
from podium.registry import worker_task

#: Every order whose number is a multiple of this fails its first check.
FLAKY_EVERY = 10


@dataclass
class Item:
    """One line of an order."""

    sku: str
    quantity: int
    price: Decimal


@dataclass
class Address:
    """Where an order goes."""

    name: str
    city: str


@dataclass
class Order:
    """What a customer ordered; the JSON input of the workflow becomes this."""

    number: int
    placed_on: date
    address: Address
    items: list[Item]


@dataclass
class Checked:
    """An order that may be paid and packed."""

    total: Decimal
    parcels: int


@dataclass
class Payment:
    """Proof of a payment."""

    receipt: str
    amount: Decimal


@dataclass
class Shipment:
    """A parcel that has arrived."""

    tracking: str
    looks: int


class StockServiceBusyError(Exception):
    """What another system's hiccup looks like to a worker."""


@worker_task("podium_demo_validate", thread_count=10)
def validate(order: Order) -> Checked:
    """Check an order and add it up; some orders fail the first time, as if another system were busy."""
    if not order.items:
        raise NonRetryableException(f"order {order.number} is empty")
    if order.number % FLAKY_EVERY == 0 and get_task_context().get_retry_count() == 0:
        raise StockServiceBusyError(f"order {order.number}: the stock service is busy")
    total = sum((item.price * item.quantity for item in order.items), Decimal(0))
    return Checked(total=total, parcels=len(order.items))


@worker_task("podium_demo_charge_payment", thread_count=10)
async def charge_payment(number: int, total: Decimal) -> Payment:
    """Charge the customer: a coroutine, because it waits for another system."""
    await asyncio.sleep(0.02)
    return Payment(receipt=f"R-{number:06}", amount=total)


@worker_task("podium_demo_reserve_stock", thread_count=10)
def reserve_stock(items: list[Item]) -> dict[str, int]:
    """Reserve each item: a plain function that blocks its thread, and nothing else."""
    time.sleep(0.01)
    get_task_context().add_log(f"reserved {len(items)} items")
    return {item.sku: item.quantity for item in items}


@worker_task("podium_demo_ship", thread_count=10)
def ship(number: int, address: Address) -> Shipment | TaskInProgress:
    """Book a parcel, then let the server call again until it has arrived; no thread waits meanwhile."""
    context = get_task_context()
    tracking = context.get_task().output_data.get("tracking")
    if tracking is None:
        context.add_log(f"parcel to {address.name} in {address.city} is booked")
        return TaskInProgress(callback_after_seconds=1, output={"tracking": f"T-{number:06}"})
    return Shipment(tracking=tracking, looks=context.get_poll_count())
