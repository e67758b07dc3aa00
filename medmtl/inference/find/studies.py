"""Studies of DICOM files -> items, one per StudyInstanceUID."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from medmtl.data.dicom.files import FileSource, InflatedSource
from medmtl.data.dicom.model import Instance, Source, VolumePlan
from medmtl.data.dicom.scan import arrange
from medmtl.inference.find.index import StudyFiles, StudyIndex, Unreadable, read_again
from medmtl.inference.find.names import Pseudonyms, digest
from medmtl.inference.find.place import Place
from medmtl.inference.find.places import compact, is_leaf
from medmtl.inference.find.rule import Rule
from medmtl.inference.find.select import Choice, choose, sentences
from medmtl.inference.items import Item


def item_of(study: StudyFiles, index: StudyIndex, rule: Rule, names: Pseudonyms) -> Item:
    """What is to be done with a study.

    Args:
        study: its files.
        index: what else there is.
        rule: what the model wants.
        names: how the study is called.
    """
    instances, findings = read_again(study)
    item = _unnamed(study, names)
    item = replace(item, paths=tuple(sorted({path for place in study.places for path in place.paths()})))
    patients = {key for one in instances if (key := one.header.get("Patient.Key"))}
    if len(patients) > 1:
        text = f"its StudyInstanceUID stands in images of {len(patients)} patients; give each their own"
        choice = Choice((), (), ("NO_USABLE_SERIES", text))
    elif not instances and findings:
        choice = Choice((), (), (findings[0].code, findings[0].message))
    else:
        choice = choose(arrange(instances, findings), rule)
    discreet = _Discreet(study.places, instances, hide=names.key is not None)
    left = tuple(discreet(text) for text in sentences(choice.left))
    refused = (choice.refused[0], discreet(choice.refused[1])) if choice.refused is not None else None
    item = replace(item, left=left, refused=refused)
    if choice.plans:
        item = replace(
            item,
            paths=_paths(choice.plans, study.places, index),
            series_uid="+".join(names.of(plan.series_uid) for plan in choice.plans),
            chosen=choice.name,
            uids=(study.uid, *(plan.series_uid for plan in choice.plans)),
        )
    watched = tuple(sorted({*item.paths, *_own_folders(study.places)}))
    item = replace(item, watched=watched if watched != item.paths else ())
    return replace(item, fingerprint=item.fingerprint_now())


class _Discreet:
    """Sentences without the names of folders, which may be patients', and without those of files if asked."""

    def __init__(self, places: Sequence[Place], instances: Sequence[Instance], *, hide: bool) -> None:
        self._starts = [place.label if place.label.endswith("/") else f"{place.label}/" for place in places]
        self._labels = [instance.source.label for instance in instances] if hide else []

    def __call__(self, text: str) -> str:
        for label in self._labels:
            if label in text:
                text = text.replace(label, "a file")
        for start in self._starts:
            text = text.replace(start, "")
        return text


def unreadable_item(found: Unreadable, names: Pseudonyms) -> Item:
    """A folder or archive of which no file can be read: there is no UID to name it by."""
    where = digest(found.path)
    message = found.message.replace(
        found.label, "a file" if names.key is not None else found.label.rpartition("/")[2]
    )
    refused = (found.code, message)
    item = Item(f"place:{where}", f"unreadable-{where}", "dicom", (found.path,), refused=refused)
    return replace(item, fingerprint=item.fingerprint_now())


def _unnamed(study: StudyFiles, names: Pseudonyms) -> Item:
    """The item's key and names."""
    if study.uid:
        return Item(f"study:{names.of(study.uid)}", names.folder(study.uid), "dicom", (), names.of(study.uid))
    where = digest(study.places[0].path)
    return Item(f"place:{where}", f"study-{where}", "dicom", ())


def _paths(plans: Sequence[VolumePlan], places: Sequence[Place], index: StudyIndex) -> tuple[str, ...]:
    """Files, folders and archives that hold the volumes."""
    instances = {id(p.instance): p.instance for plan in plans for row in plan.planes for p in row}
    files: set[str] = set()
    inside: list[Instance] = []
    for instance in instances.values():
        source: Source = instance.source
        if isinstance(source, InflatedSource):
            source = source.inner
        if isinstance(source, FileSource):
            files.add(source.path)
        else:
            inside.append(instance)
    archives = {
        place.path
        for place in places
        if place.archive and any(one.source.label.startswith(f"{place.label}/") for one in inside)
    }
    return tuple(sorted({*compact(files, index.counts), *archives}))


def _own_folders(places: Sequence[Place]) -> set[str]:
    """Folders that hold files of this study and nothing below them, so that a growing study is noticed."""
    return {p.path for p in places if not p.archive and p.names is None and p.is_folder and is_leaf(p.path)}
