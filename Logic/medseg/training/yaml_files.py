"""Recipes as files: YAML that is read safely and checked key by key, each wrong one a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from medseg.errors import RecipeError
from medseg.training.section import Section

TASKS = ("segmentation", "registration", "correction")

_RecipeT = TypeVar("_RecipeT", bound=Section)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read the keys of a recipe.

    Raises
    ------
    RecipeError
        When the file cannot be read or is not YAML with keys.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"The recipe {path} cannot be read: {getattr(error, 'strerror', None) or error}.",
            advice="Give the path of a YAML file; the project's own recipes are in Resources/recipes.",
        ) from error
    try:
        content = yaml.load(text, _Loader)  # noqa: S506 - it is a safe one
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise RecipeError(
            f"The recipe {path} is not valid YAML: {getattr(error, 'problem', error)}{where}.",
            advice="Check keys, values, indentation and quotes at that line.",
        ) from error
    if not isinstance(content, dict):
        raise RecipeError(f"The recipe {path} is empty or not a table of keys.", advice="Start from a bundled recipe.")
    return content


def task_of(content: dict[str, Any]) -> str:
    """Return what a recipe trains for; "segmentation" when it does not say."""
    return str(content.get("task", "segmentation"))


def checked_recipe(kind: type[_RecipeT], path: str | Path, content: dict[str, Any]) -> _RecipeT:
    """Return a recipe from its keys.

    Raises
    ------
    RecipeError
        Naming every wrong key with its place.
    """
    expected = kind.model_fields["task"].default
    if task_of(content) in TASKS and task_of(content) != expected:
        raise RecipeError(
            f"The recipe {path} is for the task {task_of(content)}, and one for {expected} is needed here.",
            advice="Choose another recipe, or train it with medseg train.",
        )
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        wrong = "; ".join(_sentence(detail) for detail in error.errors())
        raise RecipeError(
            f"The recipe {path} has wrong keys: {wrong}.", advice="Correct them and start again."
        ) from error


class _Loader(yaml.SafeLoader):
    """Refuses what YAML's own safe loader takes silently or breaks at, with its place."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Refuse a key that is there twice, of which the last would win."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            name = (key.tag, str(key.value))
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' is there twice", key.start_mark)
            seen.add(name)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Refuse a value that is not what it looks like, such as a date of a month that there is not."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, AttributeError) as error:
            problem = f"'{node.value}' cannot be read: {error}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error


def _sentence(detail: Any) -> str:
    place = ".".join(str(part) for part in detail["loc"]) or "recipe"
    message = str(detail["msg"]).removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        return f"'{place}' is not a key that a recipe knows"
    if detail["type"] == "missing":
        return f"'{place}' is missing"
    if detail["type"] == "union_tag_not_found":
        return f"'{place}.kind' is missing"
    if detail["type"] == "union_tag_invalid":
        return f"'{place}.kind': must be one of {detail['ctx']['expected_tags']} (found '{detail['ctx']['tag']}')"
    found = "" if isinstance(detail["input"], dict) else f" (found {detail['input']!r})"
    return f"'{place}': {message}{found}"
