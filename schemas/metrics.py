"""The metrics of all processes, in one place so that names and labels agree.

With `PROMETHEUS_MULTIPROC_DIR` set (as `fleetgate up` does) the values of every process on this machine lie in that
folder and any edge's `/metrics` shows their sum; without it a process shows its own.
"""

from bisect import bisect_left

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
LAG_BUCKETS_S = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600, 3600, 43200)
SIZE_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)


class Metrics:
    """Counters and histograms; gauges that describe the stores are read by `gateway.operations.metrics`."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.received = Counter(
            "fleetgate_messages_received", "Telemetry messages that reached an edge.", registry=registry
        )
        self.accepted = Counter(
            "fleetgate_messages_accepted", "Telemetry messages acknowledged with a 2xx.", registry=registry
        )
        self.refused = Counter(
            "fleetgate_messages_refused", "Telemetry messages refused, by reason.", ["reason"], registry=registry
        )
        self.telemetry_seconds = Histogram(
            "fleetgate_telemetry_seconds",
            "Time from a telemetry request having arrived to its answer.",
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.edge_batch_messages = Histogram(
            "fleetgate_edge_batch_messages",
            "Messages in one round trip of an edge to Redis.",
            buckets=SIZE_BUCKETS,
            registry=registry,
        )
        self.requests = Counter(
            "fleetgate_requests", "Requests other than hot telemetry.", ["method", "route", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "fleetgate_request_seconds",
            "Time of requests other than hot telemetry.",
            ["route"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.connections_aborted = Counter(
            "fleetgate_connections_aborted",
            "Connections ended because their clients did not take what they were sent, by what ran out.",
            ["limit"],
            registry=registry,
        )
        self.limited = Counter(
            "fleetgate_calls_limited",
            "Calls refused because of a limit or a share, by what it limits.",
            ["limit"],
            registry=registry,
        )
        self.flushed = Counter(
            "fleetgate_flush_messages", "Messages a flusher dealt with, by outcome.", ["outcome"], registry=registry
        )
        self.flush_seconds = Histogram(
            "fleetgate_flush_seconds",
            "Time of one flush transaction.",
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.flush_batch_messages = Histogram(
            "fleetgate_flush_batch_messages",
            "Messages in one flush transaction.",
            buckets=SIZE_BUCKETS,
            registry=registry,
        )
        self.mapped_values_unfit = Counter(
            "fleetgate_mapped_values_unfit",
            "Values of telemetry that do not fit the event type they are mapped to.",
            registry=registry,
        )
        self.state_values_left_out = Counter(
            "fleetgate_state_values_left_out",
            "Values of telemetry for which the state of their device had no room; history has them.",
            registry=registry,
        )
        self.replies_rebuilt = Counter(
            "fleetgate_replies_rebuilt", "Prepared replies written by rebuilding a shard.", registry=registry
        )
        self.postgres_went_back = Counter(
            "fleetgate_postgres_went_back",
            "Times that Postgres was found to be another, or at an earlier point, than before.",
            registry=registry,
        )
        self.shards_went_back = Counter(
            "fleetgate_shards_went_back",
            "Shards that were stored less far than before, by what became of the rest: stored again, or lost.",
            ["outcome"],
            registry=registry,
        )
        self.devices_offline = Counter(
            "fleetgate_devices_went_offline", "Devices the sweep found offline.", registry=registry
        )
        self.device_events = Counter(
            "fleetgate_device_events",
            "Events that devices told: stored, or dropped because nobody claimed the device.",
            ["outcome"],
            registry=registry,
        )
        self.retention_ended = Counter(
            "fleetgate_retention_ended",
            "Rows that were deleted because they were kept for long enough, by what they were.",
            ["what"],
            registry=registry,
        )
        self.archive_days = Counter(
            "fleetgate_archive_days", "Days of shards that were written to files of history.", registry=registry
        )
        self.archive_rows = Counter(
            "fleetgate_archive_rows", "Events that were written to files of history.", registry=registry
        )
        self.archive_lag = Gauge(
            "fleetgate_archive_lag_seconds",
            "For how long the oldest day that is not in files of history yet could have been there. More than a day: "
            "days come faster than this archiver writes them.",
            registry=registry,
        )
        self.archive_failures = Counter(
            "fleetgate_archive_failures",
            "Times that writing history to files had to wait, by cause: the file store away or full, Postgres away, "
            "the disk for temporary files, or a file that was not what had been written.",
            ["cause"],
            registry=registry,
        )
        self.commands_ended = Counter(
            "fleetgate_commands_ended", "Commands ended by a worker, by cause.", ["cause"], registry=registry
        )
        self.licenses_expired = Counter(
            "fleetgate_licenses_expired", "Licences whose time was over while they were in use.", registry=registry
        )
        self.rollout_parts = Counter(
            "fleetgate_rollout_parts",
            "Devices that a firmware rollout offered its release to, and that ended, by outcome.",
            ["outcome"],
            registry=registry,
        )
        self.delivery_attempts = Counter(
            "fleetgate_delivery_attempts",
            "Attempts to deliver an event to a data connector: delivered, or the cause of the failure.",
            ["outcome"],
            registry=registry,
        )
        self.delivery_seconds = Histogram(
            "fleetgate_delivery_seconds",
            "Time of one attempt to deliver an event.",
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.delivery_lag_seconds = Histogram(
            "fleetgate_delivery_lag_seconds",
            "Time from an event having been stored to its delivery.",
            buckets=LAG_BUCKETS_S,
            registry=registry,
        )
        self.connector_warnings = Counter(
            "fleetgate_connector_warnings", "Warnings of failing data connectors, by days.", ["days"], registry=registry
        )
        self.connectors_stalled = Counter(
            "fleetgate_connectors_stalled",
            "Data connectors found at rest though they could send something: always a fault of ours.",
            registry=registry,
        )
        self.connectors_disabled = Counter(
            "fleetgate_connectors_disabled", "Data connectors disabled because they kept failing.", registry=registry
        )

    def observe_telemetry(self, seconds: float, messages: int) -> None:
        """Count `messages` that were answered after `seconds`, at the cost of one observation."""
        _observe(self.telemetry_seconds, seconds, messages)


def _observe(histogram: Histogram, value: float, times: int = 1) -> None:
    """What `observe` does, several times at once and without its detours."""
    histogram._sum.inc(value * times)
    histogram._buckets[bisect_left(histogram._upper_bounds, value)].inc(times)
