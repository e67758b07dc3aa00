"""YAML through the safe loader, with duplicate keys refused: PyYAML alone keeps the last one silently."""

from __future__ import annotations

from pathlib import Path

import yaml

from medmtl.data.problems import Problems


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key that stands twice in one mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands there twice; keep one", key_node.start_mark
                )
            if isinstance(key, str):
                seen.add(key)
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: Path, problems: Problems) -> object:
    """The content of a YAML file, or None with a problem noted."""
    try:
        text = path.read_text(encoding="utf-8")
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
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
