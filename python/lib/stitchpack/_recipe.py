"""What a merged model is made of: base, packs, rule, and the digest of what comes out."""

from __future__ import annotations

import json
import os
from typing import Any, Optional, Tuple, Union

from . import _native
from ._record import Record

PathLike = Union[str, "os.PathLike[str]"]


class Recipe(Record):
    """What ``stitch.json`` has in it: ``base``, ``packs``, ``overlap``, ``lambda_``, ``result``.

    >>> recipe = stitchpack.Recipe("both/stitch.json")
    >>> tensors = stitchpack.load_file("base", recipe=recipe)
    """

    def __init__(self, path: PathLike) -> None:
        self.path: Optional[str] = os.fspath(path)
        """The file that it was read from, beside which packs are looked for."""
        self._json = _native.read_recipe(self.path)
        super().__init__(json.loads(self._json))

    @classmethod
    def from_json(cls, text: str, path: Optional[PathLike] = None) -> Recipe:
        """The recipe in a text. With a path, packs are looked for beside it."""
        recipe = cls.__new__(cls)
        recipe.path = None if path is None else os.fspath(path)
        recipe._json = _native.parse_recipe(text)
        Record.__init__(recipe, json.loads(recipe._json))
        return recipe

    @property
    def lambda_(self) -> float:
        """The factor of everything that is added to the base."""
        return float(self._fields["lambda"])

    def to_json(self) -> str:
        """The text of ``stitch.json``."""
        return self._json

    def __reduce__(self) -> Tuple[Any, ...]:
        return Recipe.from_json, (self._json, self.path)


RecipeLike = Union[PathLike, Recipe]


def recipe_of(recipe: Optional[RecipeLike]) -> Optional[Recipe]:
    """Reads a recipe, unless that was done."""
    return recipe if recipe is None or isinstance(recipe, Recipe) else Recipe(recipe)
