"""The documentation: generated parts are current, links hold, and the named files exist."""
