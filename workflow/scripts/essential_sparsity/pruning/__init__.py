"""Which weights are pruned: spectrum, thresholds, allocation, masks, and how alike two masks are."""
