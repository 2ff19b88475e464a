"""What was computed, by the candidate rank by rank and by the reference, and the two laid side by side."""
