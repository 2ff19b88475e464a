"""Runs cases on workers and judges them: several at once, alone when they fail, whatever breaks."""
