"""The traced step: what it communicates, and what becomes of it when one collective is changed."""
