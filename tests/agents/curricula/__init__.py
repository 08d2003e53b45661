"""Curricula: their mathematics, and that every one keeps the contract."""
