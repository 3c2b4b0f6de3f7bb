"""The server: one worker that owns the engines, behind the APIs that clients already speak."""
