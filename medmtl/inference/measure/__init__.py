"""What is measured on a study's results, and what about them a person should look at."""

from medmtl.inference.measure.flags import FLAGS, Flag
from medmtl.inference.measure.quality import Quality
from medmtl.inference.measure.subject import Measured, measure_subject

__all__ = ["FLAGS", "Flag", "Measured", "Quality", "measure_subject"]
