"""nnU-Net's raw layout (version 2): ``imagesTr``, ``labelsTr``, ``imagesTs``, ``dataset.json`` and splits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
from medmtl.data.formats.nnunet import SPLITS_FILE
from medmtl.data.nifti import write_volume
from medmtl.data.splits import folds
from medmtl.types import ConfigError

ENDING = ".nii.gz"
_NAME = re.compile(r"Dataset\d{3}_[A-Za-z0-9_.-]+")
_FOLDS = 5


@LAYOUTS.register("nnunet")
class ToNNUNet(Layout):
    """A folder for ``nnUNet_raw``: training and validation cases in ``imagesTr``, test cases in ``imagesTs``.

    ``splits_final.json`` keeps the dataset's validation cases; without any, it has five folds in which the
    frames and cases of one patient stay together. Voxels that nobody labelled become the label ``ignore``.
    """

    def write(
        self, dataset: Dataset, folder: Path, *, mask: str | None = None, progress: Progress | None = None
    ) -> Written:
        """Writes a dataset."""
        codes = choose_mask(dataset, mask)
        split = split_of(dataset)
        for name in ("imagesTr", "labelsTr"):
            (folder / name).mkdir()

        def one(case: Case) -> list[Record]:
            samples = samples_of(case, split(case), codes)
            for sample in samples:
                _write(sample, folder)
            return [record(sample) for sample in samples]

        found, left_out = for_each(dataset.cases, one, progress)
        records = [one for of_case in found for one in of_case]
        training = [sample for sample in records if sample.split != "test"]
        if not training:
            raise ConfigError(f"{dataset.root}: no case of train or val has a labelled {codes.column.name}")
        write_json(folder / FILE, _description(dataset, codes, records, len(training)))
        if splits := _splits(training):
            write_json(folder / SPLITS_FILE, splits)
        write_targets(folder, dataset, records)
        remarks = other_dense_columns(dataset, codes.column.name)
        return Written(len(found), len(records), tuple(left_out), remarks)

    def note(self, output: Path) -> str:
        """Where nnU-Net looks for the folder, and for its splits."""
        named = _NAME.fullmatch(output.resolve().name) is not None
        notes = [] if named else ["name the folder DatasetNNN_Name and put it into nnUNet_raw"]
        if (output / SPLITS_FILE).is_file():
            notes.append(f"after planning, copy {SPLITS_FILE} into nnUNet_preprocessed/DatasetNNN_Name")
        return "; ".join(notes)


def _write(sample: Sample, folder: Path) -> None:
    images, labels = ("imagesTs", "labelsTs") if sample.split == "test" else ("imagesTr", "labelsTr")
    (folder / images).mkdir(exist_ok=True)
    for number, image in enumerate(sample.images):
        write_volume(folder / images / f"{sample.name}_{number:04d}{ENDING}", image)
    if sample.mask is not None:
        (folder / labels).mkdir(exist_ok=True)
        write_volume(folder / labels / f"{sample.name}{ENDING}", sample.mask)


def _description(dataset: Dataset, codes: Codes, records: Sequence[Record], count: int) -> dict[str, Any]:
    """``dataset.json``, and a key with what nnU-Net does not ask for."""
    labels = {"background": 0, **codes.values}
    if any(sample.ignored for sample in records):
        labels["ignore"] = codes.ignore
    return {
        "channel_names": {str(number): name for number, name in enumerate(channel_labels(dataset))},
        "labels": labels,
        "numTraining": count,
        "file_ending": ENDING,
        "name": dataset.name,
        "reference": dataset.schema.citation,
        "licence": dataset.schema.licence,
        KEY: described(dataset, codes),
    }


def _splits(training: Sequence[Record]) -> list[dict[str, list[str]]]:
    """The dataset's own fold where somebody validates, else five by patient; none for one patient."""
    if any(sample.split == "val" for sample in training):
        return [{name: [s.name for s in training if s.split == name] for name in ("train", "val")}]
    cases = list({sample.case.case_id: sample.case for sample in training}.values())
    patients = {case.patient for case in cases}
    if len(patients) < 2:
        return []
    held_out = folds(cases, min(_FOLDS, len(patients)), stratify_by=None)
    return [
        {
            "train": [sample.name for sample in training if sample.case.case_id not in fold],
            "val": [sample.name for sample in training if sample.case.case_id in fold],
        }
        for fold in map(set, held_out)
    ]
