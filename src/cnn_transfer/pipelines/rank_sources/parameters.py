"""Parameters of the stage `rank_sources`."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints, field_validator

from cnn_transfer.models import NetworkSource
from cnn_transfer.parameters import ParameterError, Parameters

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.+-]{0,39}$"  # names are folders of features, and labels of a plot


class Candidate(NetworkSource):
    """A network that may become the source: what `import_source` takes; what is null need not be written."""

    weights: str | None = None
    pixel_range: tuple[float, float] | None = None


class RankParameters(Parameters):
    """Which networks are compared."""

    candidates: dict[Annotated[str, StringConstraints(pattern=NAME)], Candidate]

    @field_validator("candidates")
    @classmethod
    def _differ(cls, candidates: dict[str, Candidate]) -> dict[str, Candidate]:
        by_folder: dict[str, str] = {}
        for name in candidates:  # some file systems do not tell A from a
            if (other := by_folder.setdefault(name.lower(), name)) != name:
                raise ValueError(f"names must differ in more than their case: {other} and {name}")
        return candidates

    def check(self, image_shape: tuple[int, int, int]) -> None:
        """See, without TensorFlow, whether there are candidates, all of them are there and take the images.

        Args:
            image_shape: (height, width, channels) of the target's images.

        Raises:
            ParameterError: Naming every candidate that cannot be ranked, and what to change.
        """
        if not self.candidates:
            raise ParameterError(
                "rank_sources.candidates must name at least one network. Received: none. Add some to "
                "conf/base/parameters_rank_sources.yml, which has an example; or run with --env imagenet."
            )
        problems = []
        for name, candidate in self.candidates.items():
            try:
                candidate.check(image_shape)
            except (ValueError, FileNotFoundError, ModuleNotFoundError) as error:
                problems.append(f"rank_sources.candidates.{name}: {error}")
        if problems:
            raise ParameterError("\n".join(problems))
