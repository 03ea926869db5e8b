"""Renders templates: values go in, quoted for the language they land in; an undefined value is an error."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined, TemplateError

from crosswheel.errors import DataError
from crosswheel.spec.catalog import Catalog


def _sh(value: object) -> str:
    """For a POSIX shell: one word."""
    return shlex.quote(str(value))


def _words(values: object) -> str:
    """For a POSIX shell: a list as words."""
    if isinstance(values, str) or not isinstance(values, (list, tuple)):
        raise TypeError(f"`words` wants a list, not {values!r}")
    return shlex.join(str(value) for value in values)


def _string(value: object) -> str:
    """For Starlark, Python and protobuf text: a string in double quotes (JSON's escapes serve all three)."""
    return json.dumps(str(value))


def _strings(values: object) -> str:
    """For Starlark and Python: a list of strings."""
    if isinstance(values, str) or not isinstance(values, (list, tuple)):
        raise TypeError(f"`strings` wants a list, not {values!r}")
    return json.dumps([str(value) for value in values])


def _arguments(values: object) -> str:
    """For the exec form of a Dockerfile's instruction: strings, with commas between them."""
    return _strings(values)[1:-1]


def _cmake(value: object) -> str:
    """For CMake: a quoted argument."""
    text = str(value)
    for plain in ("\\", '"', "$"):
        text = text.replace(plain, "\\" + plain)
    return f'"{text}"'


def _meson(value: object) -> str:
    """For a Meson machine file: a string in single quotes."""
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"


def _meson_list(values: object) -> str:
    """For a Meson machine file: a list of strings."""
    if isinstance(values, str) or not isinstance(values, (list, tuple)):
        raise TypeError(f"`meson_list` wants a list, not {values!r}")
    return "[" + ", ".join(_meson(value) for value in values) + "]"


_FILTERS = {
    "sh": _sh,
    "words": _words,
    "string": _string,
    "strings": _strings,
    "arguments": _arguments,
    "cmake": _cmake,
    "meson": _meson,
    "meson_list": _meson_list,
}


class Renderer:
    """Renders the templates of a catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._environment = Environment(
            loader=FunctionLoader(catalog.template),
            undefined=StrictUndefined,
            autoescape=False,  # every value is quoted by a filter, for the language of its file
            keep_trailing_newline=True,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(_FILTERS)

    def render(self, template: str, values: Mapping[str, Any]) -> str:
        """The text of a template with values. Raises ``DataError`` with the template's name and line."""
        try:
            return self._environment.get_template(template).render(values)
        except (TemplateError, TypeError) as error:
            line = getattr(error, "lineno", None)
            where = f"toolchains/templates/{template}" + (f":{line}" if line else "")
            raise DataError("this template cannot be rendered", where=where, why=str(error)) from error


@lru_cache(maxsize=1)
def renderer_of(catalog: Catalog) -> Renderer:
    """The renderer of a catalog, the same each time: compiling the templates is most of what a plan costs."""
    return Renderer(catalog)
