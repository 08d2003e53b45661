"""Result records side by side: learning curves and comparisons."""
