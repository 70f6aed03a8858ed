"""Fine-tuning with a held mask: resumed where it was killed, in parts where memory runs out."""
