"""Suites that a YAML file declares: any gymnasium environments of one kind of actions, as tasks."""
