"""Foundations without a dependency on the rest: errors, registry, configuration, files, downloads and threads."""
