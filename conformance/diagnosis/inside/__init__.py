"""Inside the step: its values beside those of one device, up to the first that is wrong, and why it is."""
