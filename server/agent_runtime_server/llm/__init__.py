"""Model access: one seam (`base`), and the OpenAI-compatible endpoint behind it (`openai`)."""
