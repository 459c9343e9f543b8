"""Task domains: which of several queues of one task type a task goes to."""

from __future__ import annotations

from collections.abc import Callable

#: Last entry of a list of domains that means "none".
NO_DOMAIN = "NO_DOMAIN"


def resolve_domain(
    task_to_domain: dict[str, str], task_type: str, polled_lately: Callable[[str, str], bool]
) -> str | None:
    """Return the domain for a task that is scheduled now, or None.

    The first listed domain that somebody polled lately wins, else the last one.
    """
    listed = task_to_domain.get(task_type, task_to_domain.get("*"))
    if not listed:
        return None
    domains = [domain.strip() for domain in listed.split(",")]
    last = domains[-1]
    chosen = next((domain for domain in domains if domain != NO_DOMAIN and polled_lately(task_type, domain)), last)
    return None if chosen == NO_DOMAIN else chosen
