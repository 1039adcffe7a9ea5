"""An example of a musgenre plugin: a feature and a backbone."""
