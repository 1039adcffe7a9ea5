"""A feature and a backbone for musgenre, in a package of their own."""
