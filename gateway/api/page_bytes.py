"""Pages are bounded in bytes, too: a thousand messages of 120 KB would be an answer of 120 MB.

A page that has become large enough ends early, as any page does that is not the last: it says where the next one
begins. Stores that read large rows stop reading at the same mark (`gateway.stores.events.by_index`).
"""

from collections.abc import Iterable

from schemas.bounds import PAGE_BYTES_MAX


def fitting(sizes: Iterable[int]) -> int:
    """How many items of these sizes a page holds: as many as fit, and one in any case."""
    total = fit = 0
    for size in sizes:
        total += size
        if fit and total > PAGE_BYTES_MAX:
            break
        fit += 1
    return fit
