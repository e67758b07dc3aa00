"""Everything that ``predict`` was given -> items, one after the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from medmtl.data.staging import is_dataset
from medmtl.inference.find.index import Progress, StudyIndex
from medmtl.inference.find.names import Pseudonyms
from medmtl.inference.find.nifti import items_of_dataset, items_of_files, refuse_labels_among_images
from medmtl.inference.find.places import parents_of
from medmtl.inference.find.rule import Rule, parse_rule, parse_select
from medmtl.inference.find.studies import item_of, unreadable_item
from medmtl.inference.items import Item
from medmtl.types import ConfigError, Finding


class Wanting(Protocol):
    """What of a model decides which files it reads."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the image channels, in order."""
        ...

    @property
    def covariates(self) -> tuple[str, ...]:
        """Value columns that heads read."""
        ...

    @property
    def select(self) -> Rule:
        """Which volumes of a study are its channels."""
        ...


def find_items(
    sources: Sequence[Path | str],
    model: Wanting,
    *,
    split: str = "all",
    select: str = "",
    key: bytes | None = None,
    findings: list[Finding] | None = None,
    progress: Progress | None = None,
) -> Iterator[Item]:
    """Cases of datasets and NIfTI files, then studies of DICOM files, then studies of a PACS.

    All headers of DICOM files are read once, to know which files are one study's wherever they lie; after
    that, studies are looked at one by one.

    Args:
        sources: dataset folders; folders with NIfTI files, DICOM files and archives in them, mixed; single
            files; addresses of a PACS.
        model: what is wanted.
        split: cases of a dataset.
        select: what ``--select`` says; see `parse_select`.
        key: makes keyed hashes of all names.
        findings: takes what is to be said of files that are no part of any study.
        progress: told how many DICOM files were read, and how many were found so far.

    Raises:
        ConfigError: a source is not there or holds nothing that can be predicted, two cases have one name, or
            ``select`` is no rule. Raised before the first item where it can be known.
    """
    rule = rule_for(model, select)
    names = Pseudonyms(key)
    addresses, datasets, paths = _kinds(sources)
    index = StudyIndex(paths, progress) if paths else None
    if addresses or (index is not None and index.studies):
        rule.check_distinct()
    makers: list[Callable[[], Iterator[Item]]] = [
        partial(items_of_dataset, root, model.channels, model.covariates, split, names) for root in datasets
    ]
    if index is not None:
        _check_index(index, paths, model.channels)
        if findings is not None:
            findings += index.findings
        makers += [
            lambda: _nifti_items(index, paths, model.channels, names),
            lambda: (item_of(study, index, rule, names) for study in index),
            lambda: (unreadable_item(found, names) for found in index.unreadable),
        ]
    makers += [partial(_web_items, address, names) for address in addresses]
    return _distinct(item for make in makers for item in make())


def rule_for(model: Wanting, select: str = "") -> Rule:
    """The model's selection rule, with what ``--select`` says in its place.

    Raises:
        ConfigError: ``select`` is no rule.
    """
    known = parse_rule(model.select.as_plain(), model.channels)
    return parse_select([select], known)


def find_again(item: Item, model: Wanting, *, select: str = "", key: bytes | None = None) -> Item:
    """An item looked at once more, after its files changed.

    Raises:
        ConfigError: its files are gone.
    """
    if item.kind != "dicom" or not item.uids:
        return replace(item, fingerprint=item.fingerprint_now())
    rule, names = rule_for(model, select), Pseudonyms(key)
    index = StudyIndex([Path(path) for path in parents_of(item.watched or item.paths)])
    for study in index:
        if study.uid == item.uids[0]:
            return item_of(study, index, rule, names)
    raise ConfigError(f"{item.case_id}: its files are gone since they were found; see what moves them")


def _kinds(sources: Sequence[Path | str]) -> tuple[list[str], list[Path], list[Path]]:
    """Addresses, dataset folders and other paths, each once."""
    addresses: list[str] = []
    datasets: list[Path] = []
    paths: list[Path] = []
    for source in sources:
        if is_web(source):
            addresses.append(str(source))
            continue
        path = Path(os.path.abspath(source))  # noqa: PTH100 - links stay what the user called them
        if not path.exists():
            raise ConfigError(f"{source}: no such file or folder")
        (datasets if is_dataset(path) else paths).append(path)
    return list(dict.fromkeys(addresses)), list(dict.fromkeys(datasets)), list(dict.fromkeys(paths))


def is_web(source: Path | str) -> bool:
    """Whether a source is the address of a PACS."""
    return str(source).startswith(("dicomweb+", "dicomweb:"))


def _web_items(address: str, names: Pseudonyms) -> Iterator[Item]:
    from medmtl.inference.find.web import find_web

    for item in find_web(address, names.folder):
        uid = item.study_uid
        yield replace(item, key=f"study:{names.of(uid)}", study_uid=names.of(uid), uids=(uid,))


def _check_index(index: StudyIndex, paths: Sequence[Path], channels: Sequence[str]) -> None:
    """Refuse sources of which nothing can be predicted, and labels that would pass for images."""
    if index.datasets:
        raise ConfigError(
            f"{index.datasets[0]}: is a dataset, so labels lie among its images; name this folder itself"
        )
    for path in paths:
        inside = os.path.join(path, "")  # noqa: PTH118
        if path.is_dir() and any(file.startswith(inside) for file in index.nifti):
            refuse_labels_among_images(path)
    if not index.nifti and not index.studies and not index.unreadable:
        what = ", ".join(map(str, paths))
        raise ConfigError(f"{what}: no DICOM and no NIfTI file (.nii or .nii.gz) in it; name another source")


def _nifti_items(
    index: StudyIndex, paths: Sequence[Path], channels: Sequence[str], names: Pseudonyms
) -> Iterator[Item]:
    left = dict.fromkeys(index.nifti)
    for path in paths:
        root = path if path.is_dir() else path.parent
        inside = os.path.join(root, "")  # noqa: PTH118
        files = [f for f in left if f == str(path) or (path.is_dir() and f.startswith(inside))]
        for file in files:
            del left[file]
        if files:
            yield from items_of_files([Path(file) for file in sorted(files)], root, channels, names)


def _distinct(items: Iterator[Item]) -> Iterator[Item]:
    """Each item once.

    Raises:
        ConfigError: two different ones would be written into one folder.
    """
    seen: dict[str, tuple[str, str]] = {}
    for item in items:
        known = seen.get(item.case_id.lower())
        if known is None:
            seen[item.case_id.lower()] = (item.key, item.paths[0] if item.paths else "")
            yield item
        elif known[0] != item.key:
            here = item.paths[0] if item.paths else item.key
            raise ConfigError(
                f"{here} and {known[1] or known[0]} would both be the case {item.case_id!r}; predict them "
                "into two folders, or rename one"
            )
