# ruff: noqa: E501 - a table reads better with its patterns whole
"""Failures of disks, folders and the limits of a process."""

from __future__ import annotations

from training.engine.errors import ExitCode
from training.engine.fields import gettext_noop as _
from training.engine.hints.hint import Hint

HINTS: tuple[Hint, ...] = (
    Hint("disk_quota", r"Disk quota exceeded|Errno 122\b", "platform", ExitCode.DISK,
         _("The share of the disk that this account may use is full."),
         _("Free some space, or ask for a larger share, then resume.")),
    Hint("disk_full", r"No space left on device|Errno 28\b", "platform", ExitCode.DISK,
         _("The disk is full."),
         _("Free some space on the worker, then resume; nothing before the last checkpoint is lost.")),
    Hint("read_only", r"Read-only file system|Errno 30\b", "platform", ExitCode.DISK,
         _("A folder of the run is on a disk that is read-only."),
         _("Mount the disk for writing; a disk that turned read-only by itself may be failing.")),
    Hint("permission_denied", r"Permission denied|Errno 13\b|Operation not permitted|Errno 1\b", "platform", ExitCode.DISK,
         _("The worker may not read or write a file or folder of the run."),
         _("Give the worker's user read access to base models and pictures, and write access to its run and cache folders.")),
    Hint("network_disk_lost", r"Stale file handle|Errno 116\b|Transport endpoint is not connected|Errno 107\b", "platform",
         ExitCode.DISK, _("A network disk went away while the run was using it."),
         _("Mount it again, then resume.")),
    Hint("io_error", r"Input/output error|Errno 5\b", "platform", ExitCode.DISK,
         _("The disk failed to read or write."), _("Check the disk of the worker, then resume.")),
    Hint("too_many_files", r"Too many open files|Errno 24\b|Errno 23\b", "platform", ExitCode.INTERNAL,
         _("The worker may not open enough files."), _("Raise the limit of open files (ulimit -n) to 4096.")),
    Hint("too_many_threads", r"can't start new thread|Resource temporarily unavailable|Errno 11\b|pthread_create", "platform",
         ExitCode.INTERNAL, _("The worker may not start enough processes or threads."),
         _("Raise the limit of processes (ulimit -u, or pids_limit of the container).")),
    Hint("name_too_long", r"File name too long|Errno 36\b", "user", ExitCode.DATA,
         _("A file name is longer than the disk allows."), _("Shorten the name of the LoRA or of the picture.")),
    Hint("name_not_unicode", r"surrogates not allowed", "user", ExitCode.DATA,
         _("A file name is not valid Unicode."), _("Rename the file with a program that writes UTF-8 names."),
         kinds=("UnicodeEncodeError",)),
    Hint("not_a_folder", r"Not a directory|Errno 20\b", "user", ExitCode.CONFIGURATION,
         _("A file was given where a folder is needed."),
         _("Give the folder itself; a base model may also be one whole .safetensors checkpoint.")),
    Hint("is_a_folder", r"Is a directory|Errno 21\b", "user", ExitCode.CONFIGURATION,
         _("A folder was given where a file is needed."), _("Give the file itself.")),
    Hint("no_file", r"No such file or directory|Errno 2\b|FileNotFoundError", "platform", ExitCode.DATA,
         _("A file the run needs has gone."),
         _("Check that pictures and base model are still on the worker.")),
)  # fmt: skip
