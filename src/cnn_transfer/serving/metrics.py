"""What the service counts, in the form that Prometheus reads."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from cnn_transfer.prediction import WITHHELD

ANSWERED, REJECTED = "answered", "rejected"  # outcomes of an image, beside why it has no answer
SERVED, FAILED = "served", "failed"  # results of loading a release
FAILURES = ("500", "503")  # statuses of requests that alerts ask for
SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30)
IMAGES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Metrics of one service; their names begin with `cnn_transfer_`.

    What alerts ask for begins at 0: Prometheus sees no increase where a counter appears with its first event.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "cnn_transfer_requests", "Requests by address and status", ["path", "code"], registry=self.registry
        )
        self.seconds = Histogram(
            "cnn_transfer_request_seconds",
            "Time from the first byte of a request to the last of its answer",
            ["path"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.images = Counter(
            "cnn_transfer_images",
            "Images by outcome: answered, why there is no answer, or rejected",
            ["outcome"],
            registry=self.registry,
        )
        self.unfamiliar = Counter(
            "cnn_transfer_unfamiliar_images",
            "Images unlike the training images, by what they are unlike in",
            ["unlike"],
            registry=self.registry,
        )
        self.rejected = Counter(
            "cnn_transfer_rejected_images", "Images that cannot be used, by reason", ["reason"], registry=self.registry
        )
        self.predicted = Counter(
            "cnn_transfer_predicted_images", "Labelled images by predicted class", ["predicted"], registry=self.registry
        )
        self.refused = Counter(
            "cnn_transfer_refused_requests", "Requests refused as a whole, by code", ["code"], registry=self.registry
        )
        self.batch = Histogram(
            "cnn_transfer_batch_images", "Images labelled together", buckets=IMAGES, registry=self.registry
        )
        self.batch_seconds = Histogram(
            "cnn_transfer_batch_seconds", "Time to label them", buckets=SECONDS, registry=self.registry
        )
        self.waiting = Gauge("cnn_transfer_waiting_images", "Images that wait to be labelled", registry=self.registry)
        self.model = Gauge(
            "cnn_transfer_model_info", "1 for the model that is served", ["version", "runtime"], registry=self.registry
        )
        self.completed = Gauge(
            "cnn_transfer_model_completed_timestamp_seconds",
            "When the release that is served was completed, seconds since 1970",
            registry=self.registry,
        )
        self.swaps = Counter(
            "cnn_transfer_model_loads", "Releases that were loaded, or failed to", ["result"], registry=self.registry
        )
        self.failed_looks = Counter(
            "cnn_transfer_failed_looks",
            "Looks for a new release that found no place to look at",
            registry=self.registry,
        )
        for status in FAILURES:
            self.requests.labels("/predict", status)
        for outcome in (ANSWERED, *WITHHELD, REJECTED):
            self.images.labels(outcome)
        for result in (SERVED, FAILED):
            self.swaps.labels(result)

    def text(self) -> bytes:
        """All of them."""
        return generate_latest(self.registry)
