"""How far the actions of two policies are apart, by what, and how that is counted."""
