"""Data sets, networks and the loop that trains one."""
