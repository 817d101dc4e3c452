"""disk: a file system of its own, to be filled and to lose power.

An ext4 in a loop device.  EXT4_IOC_SHUTDOWN without a flush of the log makes
the kernel forget whatever was not synced, as a power failure does.  Where
mounting is not permitted it is a plain directory, and `real` is false.
"""

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import time

from harness import check

EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2


class Disk:
    """A file system of its own in a file; a plain directory without mount."""

    def __init__(self, case, name, size):
        self.path = case.path(name)
        self.image = case.path(name + ".img")
        os.mkdir(self.path)
        with open(self.image, "wb") as f:
            f.truncate(size)
        self.real = False
        if os.geteuid() == 0 and shutil.which("mkfs.ext4"):
            subprocess.run(["mkfs.ext4", "-q", "-m0", "-E", "lazy_itable_init=0", self.image],
                           check=True, stdout=subprocess.DEVNULL)
            self.real = self.mount()
            case.cleanup.callback(self.unmount)

    def mount(self):
        return subprocess.run(["mount", "-o", "loop", self.image, self.path], check=False,
                              stderr=subprocess.DEVNULL).returncode == 0

    def unmount(self):
        if not self.real:
            return
        for _ in range(200):
            if subprocess.run(["umount", self.path], check=False,
                              stderr=subprocess.DEVNULL).returncode == 0:
                return
            time.sleep(0.05)
        subprocess.run(["umount", "-l", self.path], check=False)

    def fill(self):
        """Take all space there is."""
        path = os.path.join(self.path, "filler")
        with contextlib.suppress(OSError), open(path, "wb") as f:
            space = os.statvfs(self.path)
            with contextlib.suppress(OSError):
                os.posix_fallocate(f.fileno(), 0, max(1, space.f_bavail * space.f_bsize - 65536))
            for _ in range(64):
                f.write(b"x" * 4096)
                f.flush()

    def free(self):
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(self.path, "filler"))

    def lose_power(self):
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)
        self.unmount()
        check(self.mount(), "cannot mount again", self.image)
