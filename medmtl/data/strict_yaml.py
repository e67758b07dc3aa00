"""The YAML file of a dataset folder, read strictly."""

from __future__ import annotations

from pathlib import Path

import yaml

from medmtl.data.problems import Problems
from medmtl.strict import load_yaml


def read_yaml(path: Path, problems: Problems) -> object:
    """The content of a YAML file, or None with a problem noted."""
    try:
        return load_yaml(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        problems.add(
            f"is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8", file=path.name
        )
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        row = mark.line + 1 if mark is not None else None
        problems.add(f"cannot be read as YAML: {error.problem or error.context}", file=path.name, row=row)
    except yaml.YAMLError as error:
        problems.add(f"cannot be read as YAML: {error}", file=path.name)
    return None
