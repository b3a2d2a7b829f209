"""Text-to-image pipelines of diffusers as policies."""
