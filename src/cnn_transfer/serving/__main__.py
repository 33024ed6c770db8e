"""`python -m cnn_transfer.serving`: serve the newest release until SIGTERM; `--help` lists the settings."""

from __future__ import annotations

import logging
import logging.config
import os
import sys
from typing import NoReturn

from cnn_transfer.parameters import ParameterError

CREDENTIALS = (
    "Credentials and endpoint of the service come from the variables AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and "
    "AWS_ENDPOINT_URL, or ~/.aws; conf/local/credentials.yml is read by runs alone."
)


def main() -> None:
    """Read the settings and serve."""
    try:
        from cnn_transfer.serving.releases import NoReleaseError, find_releases
        from cnn_transfer.serving.server import log_configuration, serve
        from cnn_transfer.serving.settings import Settings
    except ModuleNotFoundError as error:
        sys.exit(f"The service needs the package {error.name}: pip install 'cnn-transfer[serve]'")
    try:
        settings = Settings.read(sys.argv[1:], os.environ)
    except ParameterError as error:
        sys.exit(str(error))

    def end(reason: str) -> NoReturn:
        if settings.logs == "text":
            sys.exit(reason)
        logging.config.dictConfig(log_configuration(settings.logs))
        logging.getLogger("cnn_transfer.serving").critical(reason)
        sys.exit(1)

    try:
        found = find_releases(settings.release)
    except Exception as error:  # networks fail in many ways
        said = f"{settings.release} cannot be looked at: {type(error).__name__} {error}".rstrip(".")
        end(f"{said}. {CREDENTIALS}" if settings.release.startswith("s3://") else said)
    if not found:
        end(
            f"There is no release in {settings.release}. Make one: kedro run, then kedro run --pipelines export "
            "(needs: pip install 'cnn-transfer[export]'); or name another folder with --release"
        )
    try:
        serve(settings)
    except NoReleaseError as error:
        end(str(error))


if __name__ == "__main__":
    main()
