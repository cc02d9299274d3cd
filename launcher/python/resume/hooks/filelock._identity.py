# Versions: filelock==4.0.12,4.1.0,4.2.0,4.2.5,4.2.8,4.2.9,4.2.10,4.2.11,4.2.12
# Otherwise: kept
"""The boot that filelock's owners of locks are of, read when it is imported."""

renews = ["/proc/sys/kernel/random/boot_id"]


def resume():
    module._BOOT_ID = module._read_boot_id()  # noqa: F821 - given by resume.py
