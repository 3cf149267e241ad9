"""Measurements that people run by hand: ``make faults``. Nothing here is part of the service."""
