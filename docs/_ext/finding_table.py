"""The table of finding codes, from the sentences that the command line prints."""

from __future__ import annotations


def finding_table() -> str:
    """A row per code, with a link to its page."""
    from medmtl.report.remedies import REMEDIES

    rows = ["| code | means | what to do |", "|---|---|---|"]
    rows += [
        f"| [`{code}`](findings/{code}.md) | {says.means} | {says.do} |" for code, says in REMEDIES.items()
    ]
    return "\n".join(rows) + "\n"
