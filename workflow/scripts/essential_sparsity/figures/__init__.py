"""What a person looks at: curves, heat maps, tickets, emergence, and the summary in words."""
