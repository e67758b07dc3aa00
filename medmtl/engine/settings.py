"""How to train, beside nothing else: the `training` section of a config."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from medmtl.data.augment import AlongStack


class AugmentationSettings(BaseModel):
    """How strongly training samples are changed; see `medmtl.data.augment.Augmentation`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    rotation_degrees: float = Field(default=180.0, ge=0, description="in-plane rotation, plus or minus")
    rotation_probability: float = Field(
        default=1.0, ge=0, le=1, description="share of samples rotated at all"
    )
    zoom: float = Field(default=0.25, ge=0, description="in-plane zoom between 1/(1+zoom) and 1+zoom")
    stretch: float = Field(default=0.0, ge=0, description="in-plane stretch, likewise, that keeps areas")
    warp_voxels: float = Field(default=0.0, ge=0, description="smooth in-plane displacement that keeps areas")
    shift_voxels: float = Field(default=8.0, ge=0, description="in-plane shift of the patch")
    shift_slices: float = Field(default=1.0, ge=0, description="shift of the patch along the stack")
    slice_shift_voxels: float = Field(
        default=0.0, ge=0, description="each slice's own in-plane shift, as when breath-holds differ"
    )
    mirror: bool = Field(default=True, description="mirror in-plane")
    mirror_stack: bool = Field(default=False, description="turn the stack upside down")
    along_stack: AlongStack = Field(
        default="auto",
        description="turn about all axes, and zoom, warp, blur and coarsen along the stack too; "
        "auto: where slices lie at most 3 times as far apart as voxels are wide",
    )
    tilt_degrees: float | None = Field(
        default=None,
        ge=0,
        description="rotation about both in-plane axes then; null: as in-plane, up to 30",
    )
    probability: float = Field(
        default=0.2, ge=0, le=1, description="of warp, slices' own shifts, and each intensity change"
    )
    contrast: float = Field(default=0.3, ge=0, description="intensities times 1 +- contrast")
    brightness: float = Field(default=0.2, ge=0, description="plus or minus so many standard deviations")
    gamma: float = Field(default=0.5, ge=0, description="exponent between 1/(1+gamma) and 1+gamma")
    inverted_gamma: bool = Field(default=False, description="half of the gamma changes on the inverted image")
    bias: float = Field(default=0.0, ge=0, description="strength of a smooth multiplicative field")
    noise: float = Field(default=0.15, ge=0, description="standard deviation of added noise, at most")
    blur_voxels: float = Field(
        default=1.0, ge=0, description="standard deviation of in-plane smoothing, at most"
    )
    low_resolution: float = Field(
        default=1.0, ge=1, description="in-plane resolution lowered by a factor of at most this"
    )


class TrainingSettings(BaseModel):
    """How long, how fast, on what."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    start_from: str | None = Field(
        default=None,
        description="what training starts from: a model folder, a MONAI bundle, or a file of weights; "
        "a relative path starts where you are",
    )
    freeze: tuple[str, ...] = Field(
        default=(),
        description="parts that keep the weights they start from: encoder, decoder, names of tasks",
    )
    epochs: int = Field(default=20, ge=1, description="rounds of training, validation and checkpoint")
    steps_per_epoch: int = Field(default=100, ge=1, description="optimizer steps in each")
    batch_size: int | None = Field(
        default=None, ge=1, description="cases per step (micro-batch), all ranks; null: planned for memory"
    )
    patches: Literal["auto", "organ", "foreground"] = Field(
        default="auto",
        description="centre on the organ, or a third on labelled voxels and others anywhere; "
        "auto: the organ where it fits the patch",
    )
    sampling: Literal["uniform", "labels"] = Field(
        default="uniform",
        description="every case as often as any other, or those with rare labels more often; "
        "labels: for tasks that few cases are labelled for",
    )
    store: Literal["auto", "memory", "disk"] = Field(
        default="auto",
        description="where prepared cases are; auto: in memory if they fit half of what is free",
    )
    store_folder: str | None = Field(
        default=None, description="of the cases on disk; null: beside the dataset, with .store after its name"
    )
    accumulate: int = Field(
        default=1, ge=1, description="micro-batches per step; task weights are computed for each"
    )
    random_frames: float = Field(
        default=0.25, ge=0, description="frames per case besides ED and ES, on average"
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="peak, reached after the warm-up")
    weight_decay: float = Field(default=1e-2, ge=0, description="AdamW's")
    warmup_steps: int = Field(default=50, ge=0, description="linear rise of the learning rate")
    max_gradient_norm: float = Field(default=5.0, gt=0, description="gradients are scaled down to this norm")
    ema: float = Field(
        default=0.995, ge=0, lt=1, description="momentum of the averaged weights; 0 turns them off"
    )
    patience: int = Field(default=0, ge=0, description="epochs without improvement before stopping; 0 never")
    keep: Literal["best", "last"] = Field(default="best", description="which weights become the model")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="auto: bfloat16 where it is fast; float16 is scaled, for older GPUs"
    )
    compile: bool = Field(default=False, description="compile the trunk; worth its minute on a GPU")
    gradient_diagnostics: int = Field(
        default=0, ge=0, description="compare the tasks' gradients on every n-th step; 0 never"
    )
    validation_losses: bool = Field(
        default=False, description="write each task's loss on the validation cases to metrics.csv too"
    )
    threads: int = Field(default=0, ge=0, description="CPU threads; 0 times one against all at the start")
    mirror: bool = Field(default=False, description="average over mirror images in validation")
    augmentation: AugmentationSettings = Field(default_factory=AugmentationSettings)

    @model_validator(mode="after")
    def _freezes_what_is_known(self) -> TrainingSettings:
        if self.freeze and self.start_from is None:
            raise ValueError("freeze keeps weights as they are; name what they come from with start_from")
        return self

    @property
    def steps(self) -> int:
        """Optimizer steps in all."""
        return self.epochs * self.steps_per_epoch
