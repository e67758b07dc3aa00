"""The layout of the Medical Segmentation Decathlon: ``dataset.json`` lists every image with its label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medmtl.data.cases import Case
from medmtl.data.dataset import Dataset
from medmtl.data.export.base import LAYOUTS, Layout, Progress, Written
from medmtl.data.export.samples import (
    Codes,
    Record,
    Sample,
    choose_mask,
    for_each,
    other_dense_columns,
    record,
    samples_of,
    split_of,
)
from medmtl.data.export.targets import channel_labels, described, write_json, write_targets
from medmtl.data.formats.description import FILE, KEY
from medmtl.data.nifti import Volume, smallest_lossless, write_volume
from medmtl.types import ConfigError

ENDING = ".nii.gz"


@LAYOUTS.register("msd")
class ToMSD(Layout):
    """Train and val cases under ``training``, test cases under ``test``; channels are an image's last axis.

    The layout has no validation split: ``targets.csv`` says who validates. Voxels that nobody labelled have a
    value that ``labels`` calls ``ignore``.
    """

    def write(
        self, dataset: Dataset, folder: Path, *, mask: str | None = None, progress: Progress | None = None
    ) -> Written:
        """Writes a dataset."""
        codes = choose_mask(dataset, mask)
        split = split_of(dataset)
        for name in ("imagesTr", "labelsTr", "imagesTs"):
            (folder / name).mkdir()

        def one(case: Case) -> list[Record]:
            samples = samples_of(case, split(case), codes)
            for sample in samples:
                _write(sample, folder)
            return [record(sample) for sample in samples]

        found, left_out = for_each(dataset.cases, one, progress)
        records = [one for of_case in found for one in of_case]
        if not any(sample.split != "test" for sample in records):
            raise ConfigError(f"{dataset.root}: no case of train or val has a labelled {codes.column.name}")
        write_json(folder / FILE, _description(dataset, codes, records))
        write_targets(folder, dataset, records)
        remarks = other_dense_columns(dataset, codes.column.name)
        return Written(len(found), len(records), tuple(left_out), remarks)


def _write(sample: Sample, folder: Path) -> None:
    images, labels = ("imagesTs", "labelsTs") if sample.split == "test" else ("imagesTr", "labelsTr")
    image = sample.images[0]
    if len(sample.images) > 1:
        array = smallest_lossless(np.stack([volume.array for volume in sample.images], axis=-1))
        image = Volume(array, replace(image.geometry, frames=len(sample.images)))
    write_volume(folder / images / f"{sample.name}{ENDING}", image)
    if sample.mask is not None:
        (folder / labels).mkdir(exist_ok=True)
        write_volume(folder / labels / f"{sample.name}{ENDING}", sample.mask)


def _description(dataset: Dataset, codes: Codes, records: Sequence[Record]) -> dict[str, Any]:
    labels = {"0": "background", **{str(value): name for name, value in codes.values.items()}}
    if any(sample.ignored for sample in records):
        labels[str(codes.ignore)] = "ignore"
    training = [sample.name for sample in records if sample.split != "test"]
    test = [sample.name for sample in records if sample.split == "test"]
    return {
        "name": dataset.name,
        "description": f"{dataset.name}, written by medmtl",
        "reference": dataset.schema.citation,
        "licence": dataset.schema.licence,
        "release": "1.0",
        "tensorImageSize": "4D" if len(dataset.channels) > 1 else "3D",
        "modality": {str(number): name for number, name in enumerate(channel_labels(dataset))},
        "labels": labels,
        "numTraining": len(training),
        "numTest": len(test),
        "training": [
            {"image": f"./imagesTr/{name}{ENDING}", "label": f"./labelsTr/{name}{ENDING}"}
            for name in training
        ],
        "test": [f"./imagesTs/{name}{ENDING}" for name in test],
        KEY: described(dataset, codes),
    }
