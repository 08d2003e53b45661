"""Settings: how a run is configured, from defaults, files and the command line."""
