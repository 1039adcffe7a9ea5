"""Gradio page for classifying songs, which ``musgenre app`` serves. Requires the extra ``app``."""
