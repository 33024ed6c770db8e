"""What a saved model expects and is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ModelCard(BaseModel):
    """The facts that travel beside a model.

    Attributes:
        architecture: Registered name of the architecture.
        image_shape: (height, width, channels) of the uint8 images that the model takes.
        class_names: Class of each output probability, in order; none for a network that ends in features.
        trained_on: Name of the image set that the weights were last trained on.
        training_fingerprint: Fingerprint of that image set; `unknown` where the network was imported without a card.
        training_images: Number of images in its training split; None where that is not known.
        precision: Keras dtype policy during training; the saved weights are float32.
        initialised_from: Where the weights came from before training.
        strategy: How it was trained from there; `probe`: a head in closed form on features as they were.
        metrics: Figures on the validation split; where images of a group are right together, `validation_images` is how
            many independent ones they are worth.
        licence: Licence of the weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    trained_on: str
    training_fingerprint: str
    training_images: int | None
    precision: str
    initialised_from: str
    strategy: str
    metrics: dict[str, float]
    licence: str

    @property
    def features_learnt(self) -> bool:
        """Whether what the head reads was learnt from the training images, too."""
        return self.strategy != "probe"
