"""Optuna, loaded when a search begins; without it, an error that says how to get it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

from medmtl.types import ConfigError


def optuna() -> ModuleType:
    """The package ``optuna``.

    Raises:
        ConfigError: it is not installed; says how to get it.
    """
    try:
        return import_module("optuna")
    except ImportError as error:
        raise ConfigError(
            f"a search needs Optuna, which is not installed here ({error}); "
            "install the extra: pip install 'medmtl[search]'"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna from telling every trial on stderr while the block runs."""
    logging = optuna().logging
    before = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        logging.set_verbosity(before)
