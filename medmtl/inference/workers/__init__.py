"""How studies are spread: over threads of this process, processes of this machine, or a cluster."""

from medmtl.inference.workers.base import Workers
from medmtl.inference.workers.processes import Processes
from medmtl.inference.workers.threads import Threads

__all__ = ["Processes", "Threads", "Workers"]
