"""torch's own functional collectives, differentiated by torch."""
