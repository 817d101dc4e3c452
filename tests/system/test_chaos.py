#!/usr/bin/python3
"""Half a minute of chaos (lib/chaos.py): kills, cuts, full disks, no power."""
# timeout: 170
import chaos

chaos.main(kills=60, least=3, seconds=20.0, hosts=3, gap=0.2, disk=256, patience=60.0)
