"""One case in a store: a folder of arrays, and one JSON file, written last, that makes them count."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmtl.data.foreground import labelled_box
from medmtl.data.prepare import PreparedCase
from medmtl.data.store.arrays import SUFFIX, packed, write_durably
from medmtl.types import CaseError

CASES = "cases"
IMAGE, FOREGROUND, OVERVIEW = "image", "foreground", "overview"
MASK, MAP = "mask ", "map "
"""What stands before a column's name in the name of its array."""


def entry_file(store: Path, case_id: str) -> Path:
    """Where a case's JSON lies."""
    return store / CASES / f"{case_id}.json"


def entry_folder(store: Path, case_id: str) -> Path:
    """Where a case's arrays lie."""
    return store / CASES / case_id


def write_entry(store: Path, prepared: PreparedCase, inputs: Mapping[str, Any]) -> None:
    """Write one case, its JSON last; what stood there before is gone first.

    Raises:
        OSError: the disk is full or cannot be written; nothing that counts is left behind.
    """
    arrays: dict[str, NDArray[Any]] = {IMAGE: prepared.image.numpy(), FOREGROUND: prepared.foreground.numpy()}
    if prepared.coarse is not None:
        arrays[OVERVIEW] = prepared.coarse.numpy()
    arrays |= {MASK + name: mask.numpy() for name, mask in sorted(prepared.masks.items())}
    arrays |= {MAP + name: values.numpy() for name, values in sorted(prepared.maps.items())}
    remove_entry(store, prepared.case_id)
    folder = entry_folder(store, prepared.case_id)
    partial = folder.with_name(f".{prepared.case_id}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    files = {}
    try:
        for number, (name, array) in enumerate(arrays.items()):
            data, file = packed(array), f"{number}-{name.partition(' ')[0]}{SUFFIX}"
            write_durably(partial / file, data)
            files[name] = {
                "file": file,
                "shape": list(array.shape),
                "dtype": str(array.dtype),
                "bytes": len(data),
                "hash": hashlib.blake2b(data, digest_size=16).hexdigest(),
            }
        partial.replace(folder)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _write_json(store, prepared.case_id, {**_facts(prepared), "inputs": dict(inputs), "arrays": files})


def write_refusal(store: Path, case_id: str, error: CaseError, inputs: Mapping[str, Any]) -> None:
    """Remember that a case cannot be used, until its files change."""
    remove_entry(store, case_id)
    refused = {"code": error.code, "message": str(error)}
    _write_json(store, case_id, {"case_id": case_id, "refused": refused, "inputs": dict(inputs)})


def read_entry(store: Path, case_id: str) -> dict[str, Any] | None:
    """A case's JSON where the case is whole: every array is there with all its bytes."""
    path = entry_file(store, case_id)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        for array in found.get("arrays", {}).values():
            if (entry_folder(store, case_id) / array["file"]).stat().st_size != array["bytes"]:
                return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return dict(found)


def remove_entry(store: Path, case_id: str) -> None:
    """Forget a case: its JSON first, so that it does not count while its arrays vanish."""
    entry_file(store, case_id).unlink(missing_ok=True)
    shutil.rmtree(entry_folder(store, case_id), ignore_errors=True)


def refresh_inputs(store: Path, entry: dict[str, Any], inputs: Mapping[str, Any]) -> None:
    """Note the new dates of files whose content has not changed."""
    _write_json(store, entry["case_id"], {**entry, "inputs": dict(inputs)})


def _facts(prepared: PreparedCase) -> dict[str, Any]:
    source = prepared.source
    return {
        "case_id": prepared.case_id,
        "spacing_mm": list(prepared.spacing_mm),
        "affine": np.asarray(prepared.affine).tolist(),
        "source": {
            "shape": list(source.shape),
            "frames": source.frames,
            "affine": source.affine.tolist(),
            "oriented": source.oriented,
        },
        "is_4d": prepared.is_4d,
        "time_step_ms": prepared.time_step_ms,
        "labelled": {name: list(flags) for name, flags in prepared.labelled.items()},
        "boxes": {name: labelled_box(mask) for name, mask in prepared.masks.items()},
    }


def _write_json(store: Path, case_id: str, content: Mapping[str, Any]) -> None:
    path = entry_file(store, case_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    try:
        write_durably(partial, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
