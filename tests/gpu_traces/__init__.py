"""Importers of GPU profiles."""
