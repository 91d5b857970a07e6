# ruff: noqa: E501 - a table reads better with its patterns whole
"""Failures between the processes of one run, and processes that were ended from outside."""

from __future__ import annotations

from training.engine.errors import ExitCode
from training.engine.fields import gettext_noop as _
from training.engine.hints.hint import Hint

HINTS: tuple[Hint, ...] = (
    Hint("port_taken", r"EADDRINUSE|Address already in use|Errno 98\b", "platform", ExitCode.INTERNAL,
         _("Another program uses the port by which the processes of this run meet."),
         _("End what an earlier run left behind, or choose another MASTER_PORT.")),
    Hint("rendezvous_failed", r"Rendezvous(Timeout|Connection|Closed|State)?Error|waiting for clients|wait timeout after \d+ms|DistStoreError|TCPStore", "platform",
         ExitCode.INTERNAL, _("The processes of this run did not all find each other."),
         _("Check that all machines run the same command and reach the first one's port; MASTER_ADDR must be an address that all of them see.")),
    Hint("nccl_timeout", r"Watchdog caught collective operation timeout|NCCL.{0,80}tim(ed|e) ?out|collective operation timeout", "platform", ExitCode.INTERNAL,
         _("One GPU waited too long for the others."),
         _("Look in the log of the other processes for the first failure; where all only wait, try NCCL_P2P_DISABLE=1.")),
    Hint("nccl_failed", r"\bNCCL\b|nccl(Unhandled|System|Remote|Internal|Invalid)\w*", "platform", ExitCode.INTERNAL,
         _("The GPUs cannot talk to each other."),
         _("Give the container more shared memory (--ipc=host); if it repeats, try NCCL_P2P_DISABLE=1 or NCCL_IB_DISABLE=1.")),
    Hint("gloo_failed", r"gloo|Connection (reset|closed) by peer|connectFullMesh|Socket Timeout|Timed out waiting \d+ms", "platform", ExitCode.INTERNAL,
         _("A process of this run lost the connection to another."),
         _("Look in the log of the other processes for the first failure; set GLOO_SOCKET_IFNAME where a machine has several networks.")),
    Hint("killed", r"Signal 9 \(SIGKILL\)|signal SIGKILL|exitcode\s*:\s*-9\b|\bKilled\b|died with <Signals\.SIGKILL", "capacity", ExitCode.MEMORY,
         _("The process was ended from outside, most often by the system for want of main memory."),
         _("Give the worker more memory or swap, compute fewer pictures at once, or train fewer runs beside each other."),
         {"/training/batch_size": 1}),
    Hint("crashed", r"Signal 11 \(SIGSEGV\)|Segmentation fault|exitcode\s*:\s*-11\b|Signal 6 \(SIGABRT\)|core dumped", "platform", ExitCode.INTERNAL,
         _("The process crashed inside a library."),
         _("Install the worker's requirements again; if it repeats, check its memory (memtest) and the GPU's driver.")),
    Hint("processor_too_old", r"Illegal instruction|Signal 4 \(SIGILL\)|exitcode\s*:\s*-4\b", "platform", ExitCode.INTERNAL,
         _("The worker's processor lacks instructions that PyTorch was built with."),
         _("Use a machine with AVX2, or let the virtual machine pass the processor's features on (cpu host).")),
)  # fmt: skip

SIGNALS = {4: "processor_too_old", 6: "crashed", 7: "shared_memory_full", 9: "killed", 11: "crashed"}
"""What it means that a process was ended by a signal."""
