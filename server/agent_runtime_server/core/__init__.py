"""What every layer may use: errors, ids, the clock, settings and the observation seam."""
