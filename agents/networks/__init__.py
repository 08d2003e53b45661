"""Networks as pure functions of flat parameters."""
