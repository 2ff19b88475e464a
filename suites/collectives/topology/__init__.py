"""Networks, and what a schedule costs on them."""
