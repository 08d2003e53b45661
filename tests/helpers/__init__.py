"""Small stand-ins shared by the tests."""
