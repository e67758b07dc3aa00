"""Phantom hearts: analytic shapes that beat, seen through a scanner, with a truth that no reader can give."""

from medmtl.data.phantom.case import PhantomCase, make_case
from medmtl.data.phantom.cohort import generate_cohort
from medmtl.data.phantom.population import DISEASES

__all__ = ["DISEASES", "PhantomCase", "generate_cohort", "make_case"]
