"""The only rooms that know torch and transformers."""
