"""Profile: where the time of a step goes, what it sends along each axis, and what each device holds."""
