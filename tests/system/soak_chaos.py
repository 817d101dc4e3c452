#!/usr/bin/python3
"""Chaos with a thousand kills (lib/chaos.py); --kills N and --seconds S limit
it, then with --least N."""
# timeout: 3600
import chaos

chaos.main(kills=1000, least=1000, seconds=2400.0, hosts=4, gap=0.5, disk=2048, patience=180.0)
