"""Which contours are those of which images: by a list, or by the images themselves, and never unchecked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from medmtl.data.dicom.contour_fit import DOUBTFUL, FITS, border_fit
from medmtl.data.dicom.contours import Contour, read_contour, shared_contours
from medmtl.data.dicom.model import LoadedVolume, VolumePlan
from medmtl.data.formats.scanned import load_plan
from medmtl.data.formats.sunnybrook_folders import Folders
from medmtl.data.formats.sunnybrook_masks import Placed, misplaced, place
from medmtl.types import CaseError, Finding

_LIST = "name the pairs in a table beside them, link.csv, with the columns patient_id and original_id"


@dataclass(frozen=True)
class Known:
    """What is known of all contours before any image is looked at.

    Attributes:
        folders: where everything is.
        contours: by owner; or why an owner's cannot be read.
        shared: owner -> other owner -> contours that both have, byte for byte.
    """

    folders: Folders
    contours: Mapping[str, tuple[Contour, ...] | CaseError]
    shared: Mapping[str, Mapping[str, Sequence[Contour]]]

    @classmethod
    def read(cls, folders: Folders) -> Known:
        """Reads all contour files; those of one owner that cannot be read are that owner's affair."""
        contours: dict[str, tuple[Contour, ...] | CaseError] = {}
        for owner, files in folders.contours.items():
            try:
                contours[owner] = tuple(read_contour(file) for file in files)
            except CaseError as error:
                contours[owner] = error
        good = {owner: found for owner, found in contours.items() if not isinstance(found, CaseError)}
        return cls(folders, contours, shared_contours(good))

    def owner(self, name: str) -> str | None:
        """Whose contours a folder of images has for certain: those in it, or those that the list names."""
        if name in self.contours:
            return name
        listed = self.folders.listed.get(name)
        return listed.original if listed is not None and listed.original in self.contours else None

    def open(self, name: str) -> tuple[str, ...]:
        """Owners whose contours may be those of a folder of images that no list speaks of."""
        if self.owner(name) is not None or name in self.folders.listed:
            return ()
        taken = {self.owner(other) for other in self.folders.images}
        listed = {patient.original for patient in self.folders.listed.values()}
        return tuple(owner for owner in self.contours if owner not in taken and owner not in listed)

    def of(self, owner: str) -> tuple[Contour, ...]:
        """The contours of an owner.

        Raises:
            CaseError: one of the files cannot be used.
        """
        found = self.contours[owner]
        if isinstance(found, CaseError):
            raise CaseError(found.code, f"contours of {owner}: {found}")
        return found


@dataclass(frozen=True, eq=False)
class Match:
    """Contours on a volume: whose they are, where they lie, and how well they fit (None: cannot be told)."""

    owner: str
    placed: Placed
    loaded: LoadedVolume
    fit: float | None


def match_contours(
    name: str, plans: Sequence[VolumePlan], known: Known
) -> tuple[Match | None, list[Finding]]:
    """The contours that belong to one of some volumes, and the volume."""
    owner = known.owner(name)
    if owner is not None:
        match = _best(owner, plans, known)
        return match, _fit_or_refuse(match, DOUBTFUL)
    candidates = known.open(name)
    if not candidates:
        return None, []
    lonely = len(candidates) == 1 and all(
        other == name or not known.open(other) for other in known.folders.images
    )
    matches = []
    for owner in candidates:
        try:
            matches.append(_best(owner, plans, known))
        except CaseError:
            if lonely:
                raise
    fitting = [match for match in matches if match.fit is not None and match.fit >= FITS]
    if len(fitting) > 1:
        owners = " and ".join(match.owner for match in fitting)
        text = f"contours of {owners} would both fit; {_LIST}"
        raise CaseError("LABEL_WRONG_PATIENT", text)
    if fitting:
        text = (
            f"contours of {fitting[0].owner} were taken for this patient's: its images have their numbers "
            f"and borders where they were drawn (fit {fitting[0].fit:.2f}); no list says so"
        )
        return fitting[0], [Finding("LABEL_WRONG_PATIENT", "info", text)]
    if lonely and matches:
        return matches[0], _fit_or_refuse(matches[0], FITS)
    text = f"none of the contours that no list gives to a patient ({', '.join(candidates)}) fits; {_LIST}"
    return None, [Finding("LABEL_WRONG_PATIENT", "warning", text)]


def _best(owner: str, plans: Sequence[VolumePlan], known: Known) -> Match:
    """An owner's contours on the volume that has all their images, and where they fit best if several have.

    Raises:
        CaseError: no volume has them all, or a file cannot be used.
    """
    contours = known.of(owner)
    matches = []
    refusals = []
    for plan in sorted(plans, key=likely, reverse=True):
        try:
            placed = place(contours, plan)
        except CaseError as error:
            refusals.append(CaseError(error.code, f"contours of {owner}: {error}"))
            continue
        loaded = load_plan(plan)
        image = loaded.array if loaded.array.ndim == 4 else loaded.array[..., None]
        drawn = [(image[:, :, z, t], contour.points) for (z, t), contour in placed.inner.items()]
        matches.append(Match(owner, placed, loaded, border_fit(drawn, plan.spacing_mm[:2])))
    if not matches:
        raise refusals[0]
    return max(matches, key=lambda match: -1.0 if match.fit is None else match.fit)


def _fit_or_refuse(match: Match, needed: float) -> list[Finding]:
    """What to say of how contours fit.

    Raises:
        CaseError: ``LABEL_WRONG_PATIENT``: they do not.
    """
    if match.fit is None:
        text = f"contours of {match.owner} cannot be held against the images; look at them"
        return [Finding("LABEL_WRONG_PATIENT", "warning", text)]
    text = f"contours of {match.owner} do not lie on the borders in these images (fit {match.fit:.2f} of 1)"
    if match.fit < needed:
        raise CaseError("LABEL_WRONG_PATIENT", f"{text}; they are another patient's, or {_LIST}")
    return [Finding("LABEL_WRONG_PATIENT", "warning", f"{text}; look at them")] if match.fit < FITS else []


def without_strangers(match: Match, known: Known) -> tuple[Placed, list[Finding]]:
    """Leaves out outer contours that do not go round the inner ones; names what another patient has too."""
    placed, findings = match.placed, []
    wrong = misplaced(placed)
    both = placed.inner.keys() & placed.outer.keys()
    strangers = {placed.outer[index].digest for index in wrong}
    everywhere = len(wrong) > len(both) / 2
    if everywhere:
        strangers = {contour.digest for contour in placed.outer.values()}
    for other, contours in known.shared.get(match.owner, {}).items():
        kinds = " and ".join(sorted({contour.kind for contour in contours}))
        text = f"{len(contours)} {kinds} contour(s) of {match.owner} are byte for byte those of {other}"
        fits = not any(contour.digest in strangers for contour in contours)
        end = "they fit these images, so see to the other's" if fits else "they do not fit and were left out"
        findings.append(Finding("LABEL_WRONG_PATIENT", "warning", f"{text}; {end}"))
    if wrong:
        what = f"the inner contour reaches out of the outer one in {len(wrong)} of {len(both)} images"
        text = (
            f"{what}: the outer contours are not of these images, and all were left out"
            if everywhere
            else f"{what}; the outer one was left out there"
        )
        findings.append(Finding("LABEL_WRONG_PATIENT" if everywhere else "LABEL_VALUES", "warning", text))
    outer = {index: contour for index, contour in placed.outer.items() if contour.digest not in strangers}
    return replace(placed, outer=outer), findings


def likely(plan: VolumePlan) -> tuple[bool, bool, int]:
    """Short-axis cines before others, the largest first."""
    return plan.frames > 1, "SAX" in plan.description.upper(), len(plan.planes) * plan.frames
