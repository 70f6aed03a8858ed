"""One job: evaluate a pruned model, find a ticket, keep what is finished."""
