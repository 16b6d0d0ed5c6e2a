"""Webhooks: sends every event that a data connector is owed, at least once, until it is acknowledged or expires.

    events ─▶ tail (once for all) ──┐
           └▶ windows (behind) ─────┤                                        ┌▶ positions, ledger   ┐ one transaction
    waiting_deliveries (due) ───────┴▶ queue of a connector ─▶ lanes ─▶ POST ┴▶ failures that wait  ┘ for all connectors

The promise. An event is owed from the transaction that stored it, because a connector's place in the log *is* its
queue; there is no step between storing and owing that could be lost. A position moves past an event only in a
transaction that also counts what became of it, or lets it wait in `waiting_deliveries`. A success writes no row of its
own.

After a crash the events that were sent since the last commit are sent again. The requests a connector may have open or
not yet committed are limited together (`connector_deliveries_max`), so there are never more duplicates than that.

One process owns a connector at a time: connectors fall into slots, slots are shared between workers by lock (see
`workers.shares`). A process that lost a slot unnoticed commits nothing: every commit of a connector's progress expects
the epoch that the previous one left, and a new owner, disabling and enabling move it.

Isolation. Requests run in *lanes*, at most so many for each connector as its `Pace` allows: few at first, more with
each success, fewer when it is overloaded, one now and then when it is dead. Of the process's requests no connector may
hold more than a share of those that are free, so hanging endpoints cannot take the last. Each connector keeps few
events in memory; one that is behind reads windows of its own and leaves the tail alone.
"""
