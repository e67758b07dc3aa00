"""Prepared cases on the disk, for datasets that do not fit the memory."""

from medmtl.data.store.case import StoredCase
from medmtl.data.store.recipe import Recipe
from medmtl.data.store.size import MEMORY_SHARE, prepared_bytes
from medmtl.data.store.store import Store

__all__ = ["MEMORY_SHARE", "Recipe", "Store", "StoredCase", "prepared_bytes"]
