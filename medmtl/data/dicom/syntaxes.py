"""Transfer syntaxes: how a file's data set is encoded.

Source: DICOM PS3.5 section 10 and annex A.
"""

from __future__ import annotations

IMPLICIT = "1.2.840.10008.1.2"
"""Implicit VR little endian: also what a file is that does not say."""

EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"

UNCOMPRESSED = frozenset({IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN})

ODD = frozenset(
    {DEFLATED, BIG_ENDIAN, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205", "1.2.840.113619.5.2"}
)
"""Those whose data set is not simply little endian: deflated, big endian, and GE's private mixture."""
