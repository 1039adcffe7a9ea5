"""Foundations: errors, registry, configuration, files, downloads and threads; imports no other package of musgenre."""
