"""Reading the files of an output folder, with errors that name the file and what to do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medmtl.types import OutputError

if TYPE_CHECKING:
    from pandas import DataFrame


def read_table(path: Path) -> DataFrame | None:
    """A CSV file as strings-or-numbers, or None where it is absent or has no row; blank cells are NaN.

    Raises:
        OutputError: the file is no table.
    """
    import pandas as pd

    if not path.is_file():
        return None
    try:
        table = pd.read_csv(path, dtype={"case_id": str, "frame": str, "code": str, "message": str})
    except pd.errors.EmptyDataError:
        return None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise OutputError(
            f"{path} is not a readable CSV table ({error}); write it again or remove it"
        ) from error
    return table if len(table) else None


def read_mapping(path: Path) -> Mapping[str, Any] | None:
    """A YAML or JSON file that holds a mapping, or None where it is absent.

    Raises:
        OutputError: the file does not parse or holds something else.
    """
    import yaml

    if not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (json.JSONDecodeError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise OutputError(f"{path} does not parse ({error}); write it again or remove it") from error
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise OutputError(
            f"{path} must hold a mapping of names, found {type(content).__name__}; write it again"
        )
    return content
