"""What a policy is told and what it answers: the card, its fields, the control and the arrays."""
