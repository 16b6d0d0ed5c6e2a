"""Moves what edges accepted from the shards' streams into Postgres, exactly once.

    stream     XREAD of all shards of a lane, from their stored offsets
    messages   entries ─▶ messages; what cannot be decoded ─▶ quarantine
    merge      messages ─▶ states of devices (state_rows), events (rows)
    watch      messages ─▶ incidents of rules (rules, rule_incidents)
    storing    one transaction: offsets compared and set, events, state, ledger
    flusher    which entries are read and stored; then the streams are trimmed, or kept for a while (keeping)
    lanes      which shards are flushed together

The offset of a shard moves in the transaction that stores the rows it covers. A flusher that was overtaken (a zombie)
finds the offset moved, rolls back and gives the shard up; one that dies anywhere is followed by another that reads from
the offset, so nothing is stored twice and nothing is left out. A stream is trimmed only after the commit, and only up
to the offset.

A shard whose stream or replies are missing (Redis was emptied or replaced) is rebuilt from Postgres first; until then
its edges answer 503. Messages that Postgres refuses, or that do not decode, go to `ingest_quarantine` whole.

Every event is stored with the labels that its device has at that moment. Where a model maps telemetry to typed events
(schemas.mappings) those follow the message they were made from; the newest of each type is remembered for its device.
"""
