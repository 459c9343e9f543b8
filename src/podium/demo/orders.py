"""The demo's definitions and inputs."""

from __future__ import annotations

from typing import Any

from podium.demo.workers import charge_payment, reserve_stock, ship, validate
from podium.models import TaskDef, WorkflowDef, WorkflowTask

#: Everything that the demo leaves on a server starts with it, to stay out of the way of others.
PREFIX = "podium_demo_"
WORKFLOW = "podium_demo_order"

#: Task definition -> what its worker is, for the table.
KINDS = {
    "podium_demo_validate": "def",
    "podium_demo_charge_payment": "async def",
    "podium_demo_reserve_stock": "def",
    "podium_demo_ship": "def",
}


def task_definitions() -> list[TaskDef]:
    """Return the task definitions: quick retries, and a lost worker is noticed within half a minute."""
    return [
        TaskDef(
            name=name,
            description="order workflow of podium demo",
            retry_count=3,
            retry_delay_seconds=1,
            response_timeout_seconds=30,
        )
        for name in KINDS
    ]


def workflow_definition() -> WorkflowDef:
    """Return the workflow: validate, then payment and stock side by side, then ship."""
    order = "${workflow.input.order}"
    number = "${workflow.input.order.number}"
    check = validate(task_ref_name="validate", order=order)
    charge = charge_payment(task_ref_name="charge", number=number, total=check.output("total"))
    reserve = reserve_stock(task_ref_name="reserve", items="${workflow.input.order.items}")
    deliver = ship(task_ref_name="ship", number=number, address="${workflow.input.order.address}")
    branches = [[charge.to_workflow_task()], [reserve.to_workflow_task()]]
    return WorkflowDef(
        name=WORKFLOW,
        description="order workflow of podium demo",
        tasks=[
            check.to_workflow_task(),
            WorkflowTask(name="fork", task_reference_name="fork", type="FORK_JOIN", fork_tasks=branches),
            WorkflowTask(name="join", task_reference_name="join", type="JOIN", join_on=["charge", "reserve"]),
            deliver.to_workflow_task(),
        ],
        output_parameters={"receipt": charge.output("receipt"), "tracking": deliver.output("tracking")},
    )


def order_input(number: int) -> dict[str, Any]:
    """Return the workflow input for one order."""
    items = [{"sku": f"SKU-{number % 7 + line}", "quantity": line, "price": f"{9 + line}.90"} for line in (1, 2)]
    address = {"name": f"Customer {number}", "city": "Vienna"}
    return {"order": {"number": number, "placed_on": "2025-11-23", "address": address, "items": items}}
