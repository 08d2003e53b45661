"""Result records: what they hold, their schema, provenance, and which make one row."""
