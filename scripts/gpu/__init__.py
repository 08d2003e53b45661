"""What ``scripts/check_gpu.py`` measures, a section a file."""
