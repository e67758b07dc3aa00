"""Phantoms: analytic shapes seen through a scanner, with a truth that no reader can give.

Hearts that beat (MR), and trunks whose case-level truth lies far from what is segmented (CT, PET/CT).
"""

from medmtl.data.phantom.case import PhantomCase, make_case
from medmtl.data.phantom.cohort import generate_cohort
from medmtl.data.phantom.ct import generate_ct, make_ct
from medmtl.data.phantom.petct import generate_petct, make_petct
from medmtl.data.phantom.population import DISEASES
from medmtl.data.phantom.scan import Scan

__all__ = [
    "DISEASES",
    "PhantomCase",
    "Scan",
    "generate_cohort",
    "generate_ct",
    "generate_petct",
    "make_case",
    "make_ct",
    "make_petct",
]
