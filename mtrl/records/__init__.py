"""Result records: their fields and schema, their provenance, and the rule that puts runs into one row."""
