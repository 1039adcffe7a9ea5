"""A page on which a song can be tried; ``musgenre app`` serves it, with the extra ``app``."""
