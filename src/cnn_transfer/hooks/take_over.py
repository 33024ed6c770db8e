"""Inputs that an earlier run has made, for a run that begins in the middle of the graph."""

from __future__ import annotations

import logging

from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from cnn_transfer.datasets import versions
from cnn_transfer.runner import run_records, versioned

LOGGER = logging.getLogger("cnn_transfer")


def take_over_inputs(pipeline: Pipeline, catalog: DataCatalog) -> None:
    """Make what a part of the graph reads, but does not make, this run's own: as the latest run has it.

    All comes from one run where one has all of it; else each from the latest that has it.
    """
    records = run_records(catalog)
    if records is None:
        return
    wanted = {
        name: found
        for name in sorted(pipeline.inputs())
        if (dataset := versioned(catalog, name))
        and dataset.resolve_load_version() == records.run_id
        and not versions.exists(dataset, records.run_id)
        and (found := dataset.list_versions(full_path=False))
    }
    in_all = [
        version for version in next(iter(wanted.values()), []) if all(version in found for found in wanted.values())
    ]
    for run in dict.fromkeys((in_all or found)[0] for found in wanted.values()):
        names = [name for name, found in wanted.items() if (in_all or found)[0] == run]
        made = {name: digest for record in records.of_run(run).values() for name, digest in record["outputs"].items()}
        digests = {}
        for name in names:
            if dataset := versioned(catalog, name):
                digests[name] = made.get(name) or versions.digest(dataset, run)
                versions.adopt(dataset, run, records.run_id)
        records.save_inputs(digests, run)
        LOGGER.info("Takes %s from the run %s.", ", ".join(names) if len(names) < 4 else f"{len(names)} inputs", run)
        if versions.is_to_come(run):
            LOGGER.warning(
                "The run %s is named after a time to come: a clock was wrong then, or is now. Until that time it "
                "counts as the latest one. Go on with another run by run_id=RUN, or delete this one.",
                run,
            )
