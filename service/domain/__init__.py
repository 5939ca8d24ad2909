"""Frozen values and pure rules. Standard library only: no clock, no network, no globals that change."""
