"""The verbs of the command line, grouped by what they are about; `medmtl.cli` lists them."""
